"""Labels that come back: right ones are merged as they are, wrong ones are named and change nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sead_ray.config import LabelConfig, RunConfig
from sead_ray.errors import InputError, LabelsPending
from sead_ray.labels.task import LabelTask
from sead_ray.records import Clip, FrameLabels, Selection
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA, SELECTION_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.label_store import read_labels, require_delivery, write_request
from sead_ray.stages.labels_in import check_delivery, merge_delivery
from sead_ray.storage import Store
from tests.labels.annotators import cvat_document, nuscenes_tables, write_cvat, write_tables

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture
def config(tiny_config: RunConfig) -> RunConfig:
    return tiny_config.model_copy(update={"labels": LabelConfig(mode="wait")})


@pytest.fixture
def run(tmp_path: Path, config: RunConfig, world_clip: Clip, task: LabelTask) -> Store:
    """A run that waits for the labels of frames 3 to 5."""
    store = Store(str(tmp_path / "run"))
    store.write_table(layout.CLIPS_FILE, [world_clip.to_row()], CLIP_SCHEMA)
    store.write_table(layout.LABELS_FILE, [], LABEL_SCHEMA)
    bought = Selection(0, world_clip.clip_token, 3, 6, 1, None, "day", "first", 3)
    write_request(store, config, 0, {world_clip.clip_token: [item.frame.token for item in task.requested]})
    store.write_table(layout.selection_file(0), [bought.to_row()], SELECTION_SCHEMA)
    store.publish(layout.selection(0), {"n_frames": 3})
    return store


@pytest.fixture
def asked(task: LabelTask, truth: dict[str, FrameLabels]) -> list[FrameLabels]:
    return [truth[item.frame.token] for item in task.requested]


def merged(run: Store, config: RunConfig, source: str, **options: Any) -> dict[str, FrameLabels]:
    merge_delivery(run, config, 0, check_delivery(run, config, 0, source, **options))
    return check_delivery(run, config, 0, source, **options).labels


def same_boxes(found: FrameLabels, truth: FrameLabels) -> None:
    """Everything but the track's name and the count of returns, which tools and annotators choose."""
    assert (found.frame_token, found.clip_token, found.timestamp_us) == (
        truth.frame_token,
        truth.clip_token,
        truth.timestamp_us,
    )
    assert len(found.annotations) == len(truth.annotations)
    for mine, theirs in zip(found.annotations, truth.annotations):
        assert (mine.category, mine.category_index, mine.attribute) == (
            theirs.category,
            theirs.category_index,
            theirs.attribute,
        )
        np.testing.assert_allclose(mine.translation_m, theirs.translation_m, atol=1e-9)
        np.testing.assert_allclose(mine.size_wlh_m, theirs.size_wlh_m)
        turn = abs(np.dot(mine.rotation_wxyz, theirs.rotation_wxyz))
        assert turn == pytest.approx(1, abs=1e-12)
        assert (mine.n_lidar_points > 0) == (theirs.n_lidar_points > 0)
    for mine, theirs in zip(found.map_vectors, truth.map_vectors, strict=True):
        assert mine.map_class == theirs.map_class
        np.testing.assert_array_equal(mine.points_m, theirs.points_m)


def test_nuscenes_tables_come_back_as_the_oracle_has_them(
    run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path
) -> None:
    found = merged(run, config, write_tables(tmp_path / "in", nuscenes_tables(asked)))
    assert [found[item.frame_token].to_row() for item in asked] == [item.to_row() for item in asked]
    require_delivery(run, config, 0)
    tokens = {item.frame_token for item in asked}
    assert read_labels(run, config, tokens, {asked[0].clip_token}).keys() == tokens


def test_cvat_comes_back_as_the_oracle_has_it_without_its_context(
    run: Store, config: RunConfig, task: LabelTask, truth: dict[str, FrameLabels], tmp_path: Path
) -> None:
    source = write_cvat(tmp_path / "in" / "task.zip", cvat_document(task, truth))
    checked = check_delivery(run, config, 0, source)
    assert checked.diff.n_context == sum(len(truth[f.frame.token].annotations) for f in task.frames if f.is_context)
    found = merged(run, config, str(tmp_path / "in"))  # a folder of such zips
    assert found.keys() == {item.frame.token for item in task.requested}
    for token, labels in found.items():
        same_boxes(labels, truth[token])
    names = {
        a.instance_token: b.instance_token for t in found for a, b in zip(found[t].annotations, truth[t].annotations)
    }
    assert len(set(names.values())) == len(names)  # tracks stay tracks
    require_delivery(run, config, 0)


def test_cuboids_may_lean(
    run: Store, config: RunConfig, task: LabelTask, truth: dict[str, FrameLabels], tmp_path: Path
) -> None:
    """three.js' Euler angles are intrinsic: about x, then the new y, then the new z."""
    from scipy.spatial.transform import Rotation

    document = cvat_document(task, truth)
    shape = document["items"][2]["annotations"][0]
    shape["rotation"] = [0.1, -0.2, 0.7]
    found = merged(run, config, write_cvat(tmp_path / "task.zip", document))
    w, x, y, z = found[task.frames[2].frame.token].annotations[0].rotation_wxyz
    expected = Rotation.from_euler("XYZ", [0.1, -0.2, 0.7]).as_quat()
    assert abs(np.dot([x, y, z, w], expected)) == pytest.approx(1)


def test_deliveries_may_come_in_parts_and_again(
    run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path
) -> None:
    first, rest = nuscenes_tables(asked[:1]), nuscenes_tables(asked[1:])
    checked = check_delivery(run, config, 0, write_tables(tmp_path / "first", first))
    assert (checked.diff.new_frames, len(checked.diff.missing)) == (1, 2)
    merge_delivery(run, config, 0, checked)
    with pytest.raises(LabelsPending):
        require_delivery(run, config, 0)
    merge_delivery(run, config, 0, check_delivery(run, config, 0, write_tables(tmp_path / "rest", rest)))
    require_delivery(run, config, 0)
    again = copy.deepcopy(first)
    again["sample_annotation"][0]["translation"][0] += 0.5
    again["sample_annotation"][1]["size"][1] += 0.25
    del again["sample_annotation"][2]
    checked = check_delivery(run, config, 0, write_tables(tmp_path / "again", again))
    assert (checked.diff.new_frames, checked.diff.changed_frames, checked.diff.same_frames) == (0, 1, 0)
    assert {kind: checked.diff.boxes[kind] for kind in ("added", "removed", "moved", "resized")} == {
        "added": 0,
        "removed": 1,
        "moved": 1,
        "resized": 1,
    }
    assert "Frames: 0 new, 1 changed, 0 as before." in checked.diff.describe()
    merge_delivery(run, config, 0, checked)
    found = read_labels(run, config, {asked[0].frame_token, asked[2].frame_token}, {asked[0].clip_token})
    assert len(found[asked[0].frame_token].annotations) == len(asked[0].annotations) - 1
    assert found[asked[2].frame_token].to_row() == asked[2].to_row()


def test_frames_without_a_box_count_once_the_delivery_is_complete(
    run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path
) -> None:
    source = write_tables(tmp_path / "in", nuscenes_tables(asked[:2]))
    assert check_delivery(run, config, 0, source).diff.missing == (asked[2].frame_token,)
    found = merged(run, config, source, complete=True)
    assert found[asked[2].frame_token].annotations == ()
    require_delivery(run, config, 0)


def test_a_trained_round_takes_no_more(run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path) -> None:
    run.publish(layout.model(0), {})
    with pytest.raises(InputError, match="Round 0's model was trained already"):
        check_delivery(run, config, 0, write_tables(tmp_path / "in", nuscenes_tables(asked)))


def test_the_oracle_waits_for_nobody(run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.mode is oracle"):
        check_delivery(
            run,
            config.model_copy(update={"labels": LabelConfig()}),
            0,
            write_tables(tmp_path / "in", nuscenes_tables(asked)),
        )


def _set(table: str, column: str, value: Any, row: int = 0) -> Callable[[Tables, Clip], None]:
    def change(tables: Tables, _clip: Clip) -> None:
        tables[table][row][column] = value(tables[table][row][column]) if callable(value) else value

    return change


def _bought_frame_of_another(tables: Tables, clip: Clip) -> None:
    tables["sample_annotation"][0]["sample_token"] = clip.frames[0].token  # no context, not asked for


def _same_instance_twice(tables: Tables, _clip: Clip) -> None:
    rows, category_of = tables["sample_annotation"], {row["token"]: row["category_token"] for row in tables["instance"]}
    first = rows[0]
    twin = next(
        row
        for row in rows[1:]
        if row["sample_token"] == first["sample_token"]
        and category_of[row["instance_token"]] == category_of[first["instance_token"]]
    )
    twin["instance_token"] = first["instance_token"]


def _same_place(tables: Tables, _clip: Clip) -> None:
    rows = tables["sample_annotation"]
    rows.append({**rows[0], "token": "copy", "instance_token": "new", "prev": "", "next": ""})
    category = next(row for row in tables["instance"] if row["token"] == rows[0]["instance_token"])["category_token"]
    tables["instance"].append({"token": "new", "category_token": category})


def _token_twice(tables: Tables, _clip: Clip) -> None:
    tables["sample_annotation"][1]["token"] = tables["sample_annotation"][0]["token"]


def _unknown_class(tables: Tables, _clip: Clip) -> None:
    next(row for row in tables["category"] if row["name"] == "vehicle.car")["name"] = "vehicle.ufo"


def _unknown_attribute(tables: Tables, _clip: Clip) -> None:
    used = next(row["attribute_tokens"][0] for row in tables["sample_annotation"] if row["attribute_tokens"])
    next(row for row in tables["attribute"] if row["token"] == used)["name"] = "vehicle.flying"


def _second(tables: Tables) -> dict[str, Any]:
    """An annotation that has one before it."""
    return next(row for row in tables["sample_annotation"] if row["prev"])


def _jump(tables: Tables, _clip: Clip) -> None:
    row = _second(tables)
    row["translation"][0] += 60.0
    row["token"], row["prev"], row["next"] = "jumping", "", ""


def _back_in_time(tables: Tables, _clip: Clip) -> None:
    row = _second(tables)
    row["token"], row["prev"], row["next"] = "backward", "", row["prev"]


def _other_track(tables: Tables, _clip: Clip) -> None:
    rows = tables["sample_annotation"]
    rows[0].update(
        token="crossing", next=next(r["token"] for r in rows if r["instance_token"] != rows[0]["instance_token"])
    )


# What annotators get wrong, the row that must be named, and the words that must say why.
WRONG: dict[str, tuple[Callable[[Tables, Clip], None], str]] = {
    "a sample nobody knows": (
        _set("sample_annotation", "sample_token", "nowhere"),
        "sample nowhere, which was not asked",
    ),
    "a sample that was not bought": (_bought_frame_of_another, "which was not asked for"),
    "an unknown class": (_unknown_class, "unknown class 'vehicle.ufo'"),
    "a size of zero": (_set("sample_annotation", "size", [0.0, 4.0, 1.5]), "has the size"),
    "a size in millimetres": (
        _set("sample_annotation", "size", lambda size: [1000 * side for side in size]),
        "has the size",
    ),
    "a rotation that is none": (_set("sample_annotation", "rotation", [1.0, 0.0, 0.0, 1.0]), "not a unit quaternion"),
    "a place that is not a number": (
        _set("sample_annotation", "translation", [float("nan"), 0.0, 0.0]),
        "not 3 finite numbers",
    ),
    "a box in the lidar frame": (
        _set("sample_annotation", "translation", [3.0, 9.0, -0.5]),
        "must be in the global frame",
    ),
    "a track twice in a frame": (_same_instance_twice, "of the same instance"),
    "an object twice in a place": (_same_place, "is a second"),
    "a token twice": (_token_twice, "two rows of the token"),
    "a track that jumps": (_jump, "jumps: instance"),
    "a wrong time stamp": (_set("sample", "timestamp", lambda time_us: time_us + 500_000), "has the time stamp"),
    "a next that is earlier": (_back_in_time, "names as next an annotation of sample"),
    "a next of another track": (_other_track, "names as next an annotation of another instance"),
    "an instance that is not there": (_set("sample_annotation", "instance_token", "gone"), "no row 'gone'"),
    "a negative number of returns": (_set("sample_annotation", "num_lidar_pts", -1), "num_lidar_pts of row"),
    "an unknown attribute": (_unknown_attribute, "unknown attribute 'vehicle.flying'"),
    "a row without a size": (lambda tables, _: tables["sample_annotation"][0].pop("size"), "has no size"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_labels_are_refused_by_row_and_change_nothing(
    kind: str, run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path, world_clip: Clip
) -> None:
    merge_delivery(
        run, config, 0, check_delivery(run, config, 0, write_tables(tmp_path / "ok", nuscenes_tables(asked[:1])))
    )
    before = {name: run.read_bytes(f"{layout.LABELS_IN}/{name}") for name in run.list(layout.LABELS_IN)}
    tables = nuscenes_tables(asked)
    change, reason = WRONG[kind]
    change(tables, world_clip)
    source = write_tables(tmp_path / "wrong", tables)
    with pytest.raises(InputError) as caught:
        merge_delivery(run, config, 0, check_delivery(run, config, 0, source))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    named = [row["token"] for name in ("sample_annotation", "sample") for row in tables[name]]
    assert any(token in str(caught.value) for token in named)
    assert {name: run.read_bytes(f"{layout.LABELS_IN}/{name}") for name in run.list(layout.LABELS_IN)} == before


def _shape(document: dict[str, Any], frame: int = 2, number: int = 0) -> dict[str, Any]:
    return document["items"][frame]["annotations"][number]


def _rename_one(document: dict[str, Any]) -> None:
    track = _shape(document)["attributes"]["track_id"]
    other = next(s for s in document["items"][3]["annotations"] if s["attributes"]["track_id"] == track)
    other["label_id"] = (other["label_id"] + 1) % 23


WRONG_IN_CVAT: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another task's frame": (
        lambda d: d["items"][2].update(id="pointcloud/0003_label_x"),
        "frame that was not asked for",
    ),
    "a rectangle": (lambda d: _shape(d).update(type="bbox"), "is a bbox, not a cuboid"),
    "a label without a name": (lambda d: _shape(d).update(label_id=99), "label number 99"),
    "a track of two classes": (_rename_one, "says that instance"),
    "a flat cuboid": (lambda d: _shape(d).update(scale=[4.0, 0.0, 1.5]), "has the size"),
    "a position of two numbers": (lambda d: _shape(d).update(position=[1.0, 2.0]), "not an annotation file of CVAT"),
    "a track twice in a frame": (
        lambda d: _shape(d)["attributes"].update(track_id=_shape(d, number=1)["attributes"]["track_id"]),
        "of the same instance",
    ),
    "no annotations": (lambda d: d.pop("items"), "not an annotation file of CVAT"),
}


@pytest.mark.parametrize("kind", WRONG_IN_CVAT)
def test_wrong_labels_of_cvat_are_refused(
    kind: str, run: Store, config: RunConfig, task: LabelTask, truth: dict[str, FrameLabels], tmp_path: Path
) -> None:
    document = cvat_document(task, truth)
    change, reason = WRONG_IN_CVAT[kind]
    change(document)
    with pytest.raises(InputError, match=r"task\.zip/annotations/default\.json") as caught:
        check_delivery(run, config, 0, write_cvat(tmp_path / "task.zip", document))
    assert reason in str(caught.value)
    assert run.list(layout.LABELS_IN) == []


def test_many_faults_are_listed_and_the_first_is_the_sentence(
    run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path
) -> None:
    tables = nuscenes_tables(asked)
    for row in tables["sample_annotation"]:
        row["size"] = [-1.0, 1.0, 1.0]
    with pytest.raises(
        InputError, match=f"{len(tables['sample_annotation'])} rows are wrong. Nothing was changed"
    ) as caught:
        check_delivery(run, config, 0, write_tables(tmp_path / "in", tables))
    assert len(caught.value.listing) == min(len(tables["sample_annotation"]), 21)


def test_labels_in_another_file_are_left_to_it(
    run: Store, config: RunConfig, asked: list[FrameLabels], tmp_path: Path
) -> None:
    run.write_table(f"{layout.LABELS_IN}/vendor.parquet", [asked[0].to_row()], LABEL_SCHEMA)
    with pytest.raises(InputError, match=r"whose labels are in .*vendor\.parquet already"):
        check_delivery(run, config, 0, write_tables(tmp_path / "all", nuscenes_tables(asked)))
    checked = check_delivery(run, config, 0, write_tables(tmp_path / "rest", nuscenes_tables(asked[1:])))
    assert checked.diff.missing == ()


@pytest.mark.parametrize("content", [None, b"no zip"])
def test_what_is_no_delivery_is_named(run: Store, config: RunConfig, tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    if content:
        (folder / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match="odd"):
        check_delivery(run, config, 0, str(folder))


def test_what_datumaro_rounds_stays_within_a_centimetre(
    run: Store, config: RunConfig, task: LabelTask, truth: dict[str, FrameLabels], tmp_path: Path
) -> None:
    source = write_cvat(tmp_path / "task.zip", cvat_document(task, truth, digits=2))
    for token, labels in check_delivery(run, config, 0, source).labels.items():
        for mine, theirs in zip(labels.annotations, truth[token].annotations, strict=True):
            np.testing.assert_allclose(mine.translation_m, theirs.translation_m, atol=0.0051)
            assert abs(np.dot(mine.rotation_wxyz, theirs.rotation_wxyz)) > np.cos(0.005)
