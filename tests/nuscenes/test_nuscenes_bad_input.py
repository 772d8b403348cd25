"""Every damage to a folder ends in one sentence that names the culprit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import DataConfig, ImageConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.images import decode_frame

Edit = Callable[[Path, str, Callable[[list[dict[str, Any]]], Any]], None]
TOKEN = "token-scene-0001"


def open_folder(root: Path, **settings: Any) -> NuScenesFolder:
    return NuScenesFolder(DataConfig(root=str(root), version="v1.0-mini", **settings))


def sentence(action: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as error:
        action()
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "log"])
def test_missing_and_broken_tables_are_named(damaged_copy: Path, table: str) -> None:
    path = damaged_copy / "v1.0-mini" / f"{table}.json"
    path.write_text(path.read_text()[:-40])
    assert f"{table}.json is not valid JSON" in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
    path.unlink()
    assert f"{table}.json is missing" in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))


@pytest.mark.parametrize("table", ["sample_annotation", "instance", "category"])
def test_missing_annotation_tables_stop_labels_only(damaged_copy: Path, table: str) -> None:
    (damaged_copy / "v1.0-mini" / f"{table}.json").unlink()
    folder = open_folder(damaged_copy)
    folder.clip(TOKEN, "pool")
    assert f"{table}.json is missing" in sentence(lambda: folder.labels(TOKEN))


def test_missing_version_folder_and_can_folder(damaged_copy: Path) -> None:
    assert "v9" in sentence(lambda: NuScenesFolder(DataConfig(root=str(damaged_copy), version="v9")))
    (damaged_copy / "can_bus").rename(damaged_copy / "elsewhere")
    assert "data.can_bus=off" in sentence(lambda: open_folder(damaged_copy))
    assert open_folder(damaged_copy, can_bus="off").clip(TOKEN, "pool").dynamics_source == "pose"


def test_unknown_and_empty_splits(damaged_copy: Path) -> None:
    assert "'holiday'" in sentence(lambda: open_folder(damaged_copy).scenes("holiday"))
    assert "'test'" in sentence(lambda: open_folder(damaged_copy).scenes("test"))  # official, none of it is here
    (damaged_copy / "splits.json").write_text(json.dumps({"train": [], "val": ["scene-0002"]}))
    assert "'train' has no scene" in sentence(lambda: open_folder(damaged_copy).scenes("train"))


def test_shared_logs_and_scenes_are_refused(damaged_copy: Path) -> None:
    open_folder(damaged_copy).check_logs_disjoint()
    (damaged_copy / "splits.json").write_text(json.dumps({"train": ["scene-0001"], "val": ["scene-0003"]}))
    assert "log-a" in sentence(open_folder(damaged_copy).check_logs_disjoint)
    open_folder(damaged_copy, allow_shared_logs=True).check_logs_disjoint()
    (damaged_copy / "splits.json").write_text(json.dumps({"train": ["scene-0001"], "val": ["scene-0001"]}))
    assert TOKEN in sentence(open_folder(damaged_copy, allow_shared_logs=True).check_logs_disjoint)


@pytest.mark.parametrize(
    ("table", "row_token", "change", "named"),
    [
        ("sample", "scene-0001-3", {"next": "gone"}, ["sample.json", "'gone'", "sample scene-0001-3"]),
        ("sample", "scene-0001-3", {"timestamp": 5}, ["backwards", "scene-0001-3"]),
        ("scene", TOKEN, {"log_token": "gone"}, ["log.json", "'gone'", TOKEN]),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"ego_pose_token": "gone"}, ["ego_pose.json", "'gone'"]),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"calibrated_sensor_token": "gone"}, ["'gone'", "2-CAM_BACK"]),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"is_key_frame": False}, ["CAM_BACK", "scene-0001-2"]),
        ("sample_data", "data-scene-0001-2-LIDAR_TOP", {"is_key_frame": False}, ["LIDAR_TOP", "scene-0001-2"]),
        ("ego_pose", "data-scene-0001-2-LIDAR_TOP", {"translation": [math.nan, 0, 0]}, ["scene-0001-2-LIDAR_TOP"]),
        ("ego_pose", "data-scene-0001-2-LIDAR_TOP", {"rotation": [0, 0, 0, 0]}, ["scene-0001-2-LIDAR_TOP"]),
        ("ego_pose", "data-scene-0001-2-LIDAR_TOP", {"translation": None}, ["scene-0001-2-LIDAR_TOP"]),
        ("ego_pose", "data-scene-0001-2-CAM_BACK", {"rotation": [math.nan, 0, 0, 1]}, ["scene-0001-2-CAM_BACK"]),
        ("sample", "scene-0001-3", {"timestamp": "noon"}, ["sample.json", "'noon'", "scene-0001-3"]),
        ("sample", "scene-0001-3", {"token": "scene-0001-2"}, ["sample.json", "'scene-0001-2'", "two rows"]),
        (
            "sample_data",
            "data-scene-0001-2-CAM_BACK",
            {"sample_token": "gone"},
            ["sample.json", "'gone'", "2-CAM_BACK"],
        ),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"timestamp": 5}, ["backwards", "data-scene-0001-2-CAM_BACK"]),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"sample_token": "scene-0001-1"}, ["two key frames", "CAM_BACK"]),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"width": 0}, ["data-scene-0001-2-CAM_BACK", "0 x 90"]),
        (
            "sample_data",
            "data-scene-0001-2-CAM_BACK",
            {"filename": None},
            ["sample_data.json", "scene-0001-2-CAM_BACK"],
        ),
        ("sample_data", "data-scene-0001-2-CAM_BACK", {"filename": "../x.jpg"}, ["../x.jpg"]),
        ("scene", TOKEN, {"description": None}, ["scene.json", "description", TOKEN]),
        ("scene", TOKEN, {"first_sample_token": "gone"}, ["sample.json", "'gone'", TOKEN]),
        ("ego_pose", "data-scene-0001-2-CAM_BACK", {"token": ["x"]}, ["ego_pose.json"]),
        ("calibrated_sensor", "cal-CAM_BACK", {"camera_intrinsic": []}, ["cal-CAM_BACK"]),
        ("calibrated_sensor", "cal-CAM_BACK", {"camera_intrinsic": [1, 2, 3]}, ["cal-CAM_BACK"]),
        ("calibrated_sensor", "cal-CAM_BACK", {"rotation": [2, 0, 0, 0]}, ["cal-CAM_BACK", "unit"]),
        ("calibrated_sensor", "cal-CAM_BACK", {"sensor_token": "gone"}, ["sensor.json", "'gone'", "cal-CAM_BACK"]),
    ],
)
def test_damaged_rows_are_named(
    damaged_copy: Path, edit_table: Edit, table: str, row_token: str, change: dict[str, Any], named: list[str]
) -> None:
    edit_table(damaged_copy, table, lambda rows: [row.update(change) for row in rows if row["token"] == row_token])
    text = sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
    assert [part for part in named if part not in text] == []


@pytest.mark.parametrize(
    ("table", "row_token", "change", "named"),
    [
        ("sample_annotation", "instance-0-1-3", {"instance_token": "gone"}, ["instance.json", "'gone'", "0-1-3"]),
        ("sample_annotation", "instance-0-1-3", {"size": [1, math.inf, 1]}, ["instance-0-1-3", "size"]),
        ("sample_annotation", "instance-0-1-3", {"size": [1, 0, 1]}, ["instance-0-1-3", "size"]),
        ("sample_annotation", "instance-0-1-3", {"rotation": [0, 0, 0, 0]}, ["instance-0-1-3", "unit"]),
        ("sample_annotation", "instance-0-1-3", {"translation": [math.nan, 0, 0]}, ["instance-0-1-3", "translation"]),
        ("sample_annotation", "instance-0-1-3", {"num_lidar_pts": -1}, ["instance-0-1-3", "num_lidar_pts"]),
        ("sample_annotation", "instance-0-1-3", {"num_radar_pts": None}, ["instance-0-1-3", "num_radar_pts"]),
        ("sample_annotation", "instance-0-1-3", {"sample_token": "gone"}, ["sample.json", "'gone'", "instance-0-1-3"]),
        ("sample_annotation", "instance-0-1-3", {"sample_token": "scene-0001-2"}, ["instance-0-1-2", "instance-0-1-3"]),
        ("sample_annotation", "instance-0-1-3", {"token": "instance-0-1-2"}, ["two rows", "instance-0-1-2"]),
        ("log", "log-a", {"location": "atlantis"}, ["log-a", "'atlantis'"]),
        ("instance", "instance-0-1", {"category_token": "gone"}, ["category.json", "'gone'", "instance-0-1"]),
        ("category", "cat-animal", {"name": "unicorn"}, ["'unicorn'", "sample_annotation"]),
    ],
)
def test_damaged_annotations_are_named(
    damaged_copy: Path, edit_table: Edit, table: str, row_token: str, change: dict[str, Any], named: list[str]
) -> None:
    edit_table(damaged_copy, table, lambda rows: [row.update(change) for row in rows if row["token"] == row_token])
    text = sentence(lambda: open_folder(damaged_copy).labels(TOKEN))
    assert [part for part in named if part not in text] == []


def test_rows_without_a_column_name_the_table(damaged_copy: Path, edit_table: Edit) -> None:
    edit_table(damaged_copy, "scene", lambda rows: rows[0].pop("description"))
    text = sentence(lambda: open_folder(damaged_copy).scenes("train"))
    assert "scene.json" in text
    assert "'description'" in text


def test_can_files_that_lack_the_pose_are_named(damaged_copy: Path) -> None:
    pose = damaged_copy / "can_bus" / "scene-0001_pose.json"
    messages = json.loads(pose.read_text())
    pose.write_text(json.dumps([{**message, "utime": message["utime"] + 10**9} for message in messages]))
    assert "scene-0001_pose.json has no message" in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
    for change, named in (
        ({"orientation": [0, 0, 0, 0]}, "not finite"),
        ({"accel": [0, math.nan, 0]}, "not finite"),
        ({"accel": [0, 0]}, "not a CAN pose"),
        ({"utime": 5}, "backwards"),
    ):
        pose.write_text(json.dumps([*messages[:9], {**messages[9], **change}, *messages[10:]]))
        text = sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
        assert "scene-0001_pose.json" in text
        assert named in text
    pose.write_text(json.dumps([{"utime": 3}]))
    assert "scene-0001_pose.json" in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
    pose.unlink()
    assert "scene-0001_pose.json is missing" in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
    (damaged_copy / "can_bus" / "scene-0001_meta.json").unlink()
    assert open_folder(damaged_copy).clip(TOKEN, "pool").dynamics_source == "pose"


def test_missing_map_is_named(damaged_copy: Path) -> None:
    path = damaged_copy / "maps" / "expansion" / "boston-seaport.json"
    path.write_text("{}")
    assert "boston-seaport.json is not a nuScenes map" in sentence(lambda: open_folder(damaged_copy).labels(TOKEN))
    path.unlink()
    assert "boston-seaport.json does not exist" in sentence(lambda: open_folder(damaged_copy).labels(TOKEN))


def test_bad_images_are_named(damaged_copy: Path) -> None:
    folder = open_folder(damaged_copy)
    frame = folder.clip(TOKEN, "pool").frames[0]
    key = frame.cameras[4].key
    path = damaged_copy / key
    whole = path.read_bytes()
    other_size = (damaged_copy / frame.cameras[0].key).read_bytes()
    for data in (b"", whole[: len(whole) // 2], whole[:30], b"no image at all"):
        path.write_bytes(data)
        assert key in sentence(lambda: decode_frame(folder.store, frame, ImageConfig(width=96)))
    import cv2
    import numpy as np

    path.write_bytes(cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes())
    assert "60 x 40" in sentence(lambda: decode_frame(folder.store, frame, ImageConfig(width=96)))
    path.write_bytes(other_size)
    decode_frame(folder.store, frame, ImageConfig(width=96))
    path.unlink()
    assert key in sentence(lambda: decode_frame(folder.store, frame, ImageConfig(width=96)))
    assert key in sentence(lambda: open_folder(damaged_copy).clip(TOKEN, "pool"))
