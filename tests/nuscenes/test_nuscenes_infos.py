"""VAD's infos: what the tables give equals what the devkit gives, and importing infos equals preparing the tables."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.import_infos import ImportConfig, job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.info_labels import FIRST_CATEGORY_TABLE, category_table
from sead_ray.nuscenes.vad_info import drive_info, label_info
from sead_ray.records import OBJECT_CATEGORIES
from sead_ray.stages.rounds import claim_config, located
from sead_ray.storage import Store
from tests.nuscenes.compare_infos import differences, worst
from tests.nuscenes.compare_runs import clip_rows, label_rows, same_grouping, take_instances, unequal
from tests.nuscenes.devkit_infos import DevkitInfos

Files = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def infos(tiny_world: str) -> Files:
    """The devkit's infos of the tiny world's two splits."""
    devkit = DevkitInfos(tiny_world, "v1.0-trainval")
    splits = json.loads((Path(tiny_world) / "splits.json").read_text())
    return {split: devkit.file(splits[split]) for split in ("train", "val")}


def test_frames_equal_the_devkits_infos(infos: Files, tiny_config: RunConfig) -> None:
    folder, found = NuScenesFolder(tiny_config.data), []
    for info in infos["train"]["infos"] + infos["val"]["infos"]:
        if info["frame_idx"] == 0:
            clip = folder.clip(info["scene_token"], "pool")
            labels = {item.frame_token: item for item in folder.labels(info["scene_token"])}
        ours = drive_info(clip, info["frame_idx"]) | label_info(clip, info["frame_idx"], labels)
        found.append(differences(ours, info))
        np.testing.assert_array_equal(ours["gt_agent_lcf_feat"][:, 8], info["gt_agent_lcf_feat"][:, 8])
    assert len(found) == 96
    assert {name: value for name, value in worst(found).items() if value > 1e-5} == {}


def import_files(files: Files, config: RunConfig, folder: Path, protocol: int = 2, **settings: Any) -> Store:
    """Runs the job on pickles of the files."""
    for name, content in files.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol))
    paths = {f"{name}_infos": str(folder / f"{name}.pkl") for name in files}
    values = config.model_dump() | {"run_dir": str(folder / "run")} | paths | settings
    job(ImportConfig.model_validate(values))
    return Store(str(folder / "run"))


def test_import_agrees_with_prepare(infos: Files, tiny_config: RunConfig, tiny_run: Store, tmp_path: Path) -> None:
    run = import_files(infos, tiny_config, tmp_path)
    clips, prepared = clip_rows(run), clip_rows(tiny_run)
    assert list(clips) == list(prepared)
    assert list(unequal(clips, prepared, 1e-6)) == []
    labels, expected = label_rows(run), label_rows(tiny_run)
    assert list(labels) == list(expected)
    assert same_grouping(take_instances(labels), take_instances(expected))
    assert list(unequal(labels, expected, 1e-6)) == []


def test_import_agrees_without_can(infos: Files, tiny_config: RunConfig, tmp_path: Path) -> None:
    data = tiny_config.data.model_copy(update={"can_bus": "off"})
    scene = infos["val"]["infos"][0]["scene_token"]
    rows = [info for info in infos["val"]["infos"] if info["scene_token"] == scene]
    run = import_files({"train": {"infos": rows}}, tiny_config.model_copy(update={"data": data}), tmp_path)
    assert list(unequal(clip_rows(run)[scene], NuScenesFolder(data).clip(scene, "pool").to_row(), 1e-6)) == []


def test_category_table_is_recognised(infos: Files) -> None:
    rows = infos["train"]["infos"]
    assert category_table(rows) == OBJECT_CATEGORIES
    old = copy.deepcopy(rows)
    for info in old:
        for row in info["gt_agent_lcf_feat"]:
            row[8] = FIRST_CATEGORY_TABLE.index(OBJECT_CATEGORIES[int(row[8])])
    assert category_table(old) == FIRST_CATEGORY_TABLE
    old[3]["gt_agent_lcf_feat"][0, 8] = 99
    with pytest.raises(InputError, match=old[3]["token"]):
        category_table(old)


def test_without_scene_tables_logs_are_those_of_the_image_names(
    infos: Files, tiny_config: RunConfig, tmp_path: Path
) -> None:
    run = import_files(infos, tiny_config, tmp_path, scene_tables=False)
    rows = clip_rows(run)
    for info in infos["train"]["infos"]:
        row = rows[info["scene_token"]]
        assert row["name"] == info["scene_token"]
        assert f"/{row['log_token']}__CAM_FRONT__" in info["cams"]["CAM_FRONT"]["data_path"]
        assert (row["is_night"], row["is_rainy"], row["description"]) == (False, False, "")


def drop(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda info: info.pop(field)


def put(field: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda info: info.update({field: value})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop("can_bus"), "'can_bus'"),
        (drop("gt_agent_fut_masks"), "'gt_agent_fut_masks'"),
        (put("ego2global_translation", [np.nan, 0, 0]), "ego2global_translation"),
        (put("ego2global_rotation", [0.0, 0, 0, 0]), "ego2global_rotation"),
        (put("lidar2ego_rotation", "north"), "lidar2ego_rotation"),
        (put("timestamp", "noon"), "timestamp"),
        (put("next", "elsewhere"), "elsewhere"),
        (put("map_location", "atlantis"), "atlantis"),
        (put("gt_ego_fut_cmd", np.zeros(3)), "gt_ego_fut_cmd"),
        (put("gt_boxes", np.zeros((2, 5))), "gt_boxes"),
        (put("scene_token", "nowhere"), "nowhere"),
        (lambda info: info["cams"].pop("CAM_BACK"), "CAM_BACK"),
        (lambda info: info["cams"]["CAM_BACK"].update(data_path="/etc/passwd"), "passwd"),
        (lambda info: info["cams"]["CAM_BACK"].update(data_path="samples/../../x.jpg"), ".."),
        (lambda info: info["cams"]["CAM_BACK"].update(data_path="samples/CAM_BACK/none.jpg"), "none.jpg"),
        (lambda info: info["cams"]["CAM_BACK"].update(cam_intrinsic=np.full((3, 3), np.inf)), "cam_intrinsic"),
        (lambda info: info["gt_agent_fut_trajs"].__iadd__(0.5), "announces"),
    ],
)
def test_damaged_infos_are_named(
    infos: Files, tiny_config: RunConfig, tmp_path: Path, change: Callable[[dict[str, Any]], Any], named: str
) -> None:
    scene = infos["val"]["infos"][0]["scene_token"]
    rows = copy.deepcopy([info for info in infos["val"]["infos"] if info["scene_token"] == scene])
    change(rows[0])
    with pytest.raises(InputError) as error:
        import_files({"train": {"infos": rows}}, tiny_config, tmp_path)
    assert named in str(error.value)
    assert str(error.value).endswith(".")
    assert not Store(str(tmp_path / "run")).exists("labels/manifest.json")


def test_a_run_goes_on_from_imported_infos(infos: Files, tiny_config: RunConfig, tmp_path: Path) -> None:
    """The rounds name local paths absolutely; so must what the import leaves."""
    scene = infos["val"]["infos"][0]["scene_token"]
    rows = [info for info in infos["val"]["infos"] if info["scene_token"] == scene]
    model = tiny_config.model.model_copy(update={"backbone_weights": "weights/resnet50.pth"})
    config = tiny_config.model_copy(update={"model": model})
    run = import_files({"train": {"infos": rows}}, config, tmp_path)
    claim_config(run, located(config.model_copy(update={"run_dir": run.root})))


@pytest.mark.parametrize("position", [0, 3])
def test_an_empty_image_is_named(
    infos: Files, tiny_config: RunConfig, tiny_world: str, tmp_path: Path, position: int
) -> None:
    scene = infos["val"]["infos"][0]["scene_token"]
    rows = [info for info in infos["val"]["infos"] if info["scene_token"] == scene]
    key = "samples" + rows[position]["cams"]["CAM_BACK"]["data_path"].partition("samples")[2]
    root = tmp_path / "nuscenes"
    shutil.copytree(tiny_world, root, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    (root / key).unlink()
    (root / key).write_bytes(b"")
    config = tiny_config.model_copy(update={"data": tiny_config.data.model_copy(update={"root": str(root)})})
    with pytest.raises(InputError, match="is empty") as error:
        import_files({"train": {"infos": rows}}, config, tmp_path)
    assert key in str(error.value)
    assert rows[position]["token"] in str(error.value)


def test_twice_in_one_file_in_both_files_and_shared_logs(infos: Files, tiny_config: RunConfig, tmp_path: Path) -> None:
    rows = infos["val"]["infos"]
    with pytest.raises(InputError, match=f"holds info {rows[0]['token']} twice"):
        import_files({"train": {"infos": [*rows, rows[0]]}}, tiny_config, tmp_path)
    with pytest.raises(InputError, match="is in both files"):
        import_files({"train": {"infos": rows}, "val": {"infos": rows}}, tiny_config, tmp_path)
    with pytest.raises(InputError, match="train_infos is not set"):
        import_files({}, tiny_config, tmp_path)


def test_infos_without_boxes_are_for_annotators(infos: Files, tiny_config: RunConfig, tmp_path: Path) -> None:
    bare = [{k: v for k, v in info.items() if not k.startswith(("gt_", "num_"))} for info in infos["train"]["infos"]]
    with pytest.raises(InputError, match=r"labels\.mode=wait"):
        import_files({"train": {"infos": bare}, "val": infos["val"]}, tiny_config, tmp_path)
    shutil.rmtree(tmp_path / "run")
    waiting = tiny_config.model_copy(update={"labels": tiny_config.labels.model_copy(update={"mode": "wait"})})
    run = import_files({"train": {"infos": bare}, "val": infos["val"]}, waiting, tmp_path)
    assert {row["clip_token"] for row in label_rows(run).values()} == {
        info["scene_token"] for info in infos["val"]["infos"]
    }
    assert [row["command"] for row in clip_rows(run)[bare[0]["scene_token"]]["frames"]] == [
        int(np.argmax(info["gt_ego_fut_cmd"]))
        for info in infos["train"]["infos"]
        if info["scene_token"] == bare[0]["scene_token"]
    ]
