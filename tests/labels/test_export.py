"""What goes out to annotation tools: exactly the bought frames and their context, in files that the tools read."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, invert, transform_points
from sead_ray.labels.export import EXPORTERS
from sead_ray.labels.point_cloud import count_inside
from sead_ray.labels.sources import CATEGORIES, Sources
from sead_ray.labels.task import LabelTask, label_task
from sead_ray.records import CAMERAS, Clip, FrameLabels
from sead_ray.storage import Store


def exported(tool: str, task: LabelTask, sources: Sources, folder: Path) -> Store:
    target = Store(str(folder / tool))
    keys = EXPORTERS[tool]([task], target, sources)
    assert all(target.exists(key) for key in keys)
    return target


def tokens(clip: Clip, start: int, stop: int) -> list[str]:
    return [frame.token for frame in clip.frames[start:stop]]


def test_a_task_is_the_bought_run_and_its_neighbours(task: LabelTask, world_clip: Clip) -> None:
    assert [item.index for item in task.frames] == [1, 2, 3, 4, 5, 6, 7]
    assert [item.index for item in task.requested] == [3, 4, 5]
    assert task.frames[0].name == f"0001_context_{world_clip.frames[1].token}"
    at_the_edge = label_task(world_clip, tokens(world_clip, 0, 1), context=2)
    assert [item.index for item in at_the_edge.frames] == [0, 1, 2]
    with pytest.raises(InputError, match="frame nowhere, which clip"):
        label_task(world_clip, ["nowhere"], context=0)


def test_nuscenes_tokens_are_those_of_the_devkit(
    task: LabelTask, sources: Sources, tmp_path: Path, world_clip: Clip
) -> None:
    from nuscenes import NuScenes

    target = exported("nuscenes", task, sources, tmp_path)
    asked, rows = target.read_json("sample_tokens.json"), target.read_json("samples.json")
    assert asked == tokens(world_clip, 3, 6)
    devkit = NuScenes("v1.0-trainval", sources.data.root, verbose=False)
    for row in rows:
        sample = devkit.get("sample", row["sample_token"])
        assert (sample["scene_token"], sample["timestamp"]) == (row["scene_token"], row["timestamp"])
    assert [row["sample_token"] for row in rows if row["is_context"]] == [
        *tokens(world_clip, 1, 3),
        *tokens(world_clip, 6, 8),
    ]


def test_navsim_scenes_end_at_the_bought_frames_and_fit_into_the_log(
    task: LabelTask, sources: Sources, tmp_path: Path, world_clip: Clip
) -> None:
    content = yaml.safe_load(exported("navsim", task, sources, tmp_path).read_bytes("scene_filter.yaml"))
    assert content["_target_"] == "navsim.common.dataclasses.SceneFilter"
    assert set(content) - {"_target_", "_convert_"} == {  # navsim v1.1, common/dataclasses.py
        *("num_history_frames", "num_future_frames", "frame_interval", "has_route", "max_scenes", "log_names", "tokens")
    }
    # As NAVSIM's filter_scenes: windows over the log, each named by its last frame of history.
    log, length = tokens(world_clip, 0, 8), content["num_history_frames"] + content["num_future_frames"]
    windows = [log[start : start + length] for start in range(0, len(log), content["frame_interval"])]
    found = {window[content["num_history_frames"] - 1] for window in windows if len(window) == length}
    assert set(content["tokens"]) == set(tokens(world_clip, 3, 6)) <= found
    assert (content["num_history_frames"], content["num_future_frames"]) == (3, 2)


def test_cvat_takes_the_tasks_by_its_own_models(task: LabelTask, sources: Sources, tmp_path: Path) -> None:
    from cvat_sdk import models
    from cvat_sdk.api_client.configuration import Configuration

    target = exported("cvat", task, sources, tmp_path)
    (specification,) = target.read_json("tasks.json")
    parsed = models.TaskWriteRequest._new_from_openapi_data(
        **specification, _configuration=Configuration(), _spec_property_naming=True, _check_type=True
    )
    assert [label.name for label in parsed.labels] == list(CATEGORIES)
    assert parsed.segment_size == 7
    assert f"tasks/{task.clip.name}.zip" in target.read_bytes("create_tasks.sh").decode()


def test_cvat_archives_hold_clouds_and_images_of_every_frame(
    task: LabelTask, sources: Sources, tmp_path: Path, truth: dict[str, FrameLabels]
) -> None:
    data = exported("cvat", task, sources, tmp_path).read_bytes(f"tasks/{task.clip.name}.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        for item in task.frames:
            assert f"pointcloud/{item.name}.pcd" in names
            for camera in item.frame.cameras:
                image = archive.read(f"related_images/{item.name}_pcd/{camera.name}.jpg")
                assert cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape[1] == camera.width
            points = read_pcd(archive.read(f"pointcloud/{item.name}.pcd"))
            check_points(points[:, :3] + task.origin_m, truth[item.frame.token])
    assert len(names) == 7 * len(task.frames)


def read_pcd(data: bytes) -> np.ndarray:
    """As the format's description says: a header in ASCII up to its DATA line, then the points."""
    header, _, body = data.partition(b"DATA binary\n")
    entries = dict(line.split(" ", 1) for line in header.decode().splitlines() if not line.startswith("#"))
    assert (entries["FIELDS"], entries["SIZE"], entries["TYPE"]) == ("x y z intensity", "4 4 4 4", "F F F F")
    points = np.frombuffer(body, "<f4").reshape(-1, 4)
    assert len(points) == int(entries["POINTS"]) == int(entries["WIDTH"]) * int(entries["HEIGHT"])
    return points


def check_points(points_m: np.ndarray, labels: FrameLabels) -> None:
    """The cloud lies where the boxes are: in each about as many returns as the world counted."""
    assert labels.annotations
    for item in labels.annotations:
        box_from_global = invert(Pose(item.translation_m, item.rotation_wxyz).matrix)
        width, length, height = item.size_wlh_m
        inside = count_inside(points_m, box_from_global, (length, width, height))
        assert 0.9 * item.n_lidar_points - 2 <= inside <= 1.3 * item.n_lidar_points + 5


def test_label_studio_shows_six_images_a_frame(task: LabelTask, sources: Sources, tmp_path: Path) -> None:
    target = exported("label_studio", task, sources, tmp_path)
    root = ElementTree.fromstring(target.read_bytes("labeling_config.xml"))
    images = {image.get("name"): image.get("value") for image in root.iter("Image")}
    assert images == {name: f"${name}" for name in CAMERAS}
    for control in root.iter("RectangleLabels"):
        assert control.get("toName") in images
        assert [label.get("value") for label in control] == list(CATEGORIES)
    rows = target.read_json("tasks.json")
    assert [row["data"]["is_context"] for row in rows] == [item.is_context for item in task.frames]
    shown = [*images.values(), *(header.get("value") for header in root.iter("Header"))]
    variables = {value[1:] for value in shown if value and value.startswith("$")}
    for row in rows:  # what the configuration shows, every task has
        assert variables <= row["data"].keys()
        prefix, _, key = row["data"]["CAM_FRONT"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert sources.data.exists(key)


def test_fiftyone_samples_name_existing_images(task: LabelTask, sources: Sources, tmp_path: Path) -> None:
    target = exported("fiftyone", task, sources, tmp_path)
    assert target.read_json("metadata.json")["media_type"] == "image"
    samples = target.read_json("samples.json")["samples"]
    assert len(samples) == 6 * len(task.frames)
    assert all(Path(sample["filepath"]).is_file() for sample in samples)
    assert {tuple(sample["tags"]) for sample in samples if sample["frame_index"] in (3, 4, 5)} == {("label",)}
    assert {tuple(sample["tags"]) for sample in samples if sample["frame_index"] not in (3, 4, 5)} == {("context",)}


POSE = {"position", "heading"}
CAMERA = {"image-path", "unix-timestamp", "fx", "fy", "cx", "cy", "skew", "camera-model"} | POSE


def test_ground_truth_sequences_have_the_documented_form(
    task: LabelTask, sources: Sources, tmp_path: Path, truth: dict[str, FrameLabels]
) -> None:
    """Amazon SageMaker's "Create a point cloud sequence input manifest", as we read it."""
    target = exported("ground_truth", task, sources, tmp_path)
    (line,) = [json.loads(row) for row in target.read_bytes("sequences.manifest").decode().splitlines()]
    prefix = f"s3://labels/round-1/{task.clip.name}/"
    assert line["source-ref"] == f"{prefix}sequence.json"
    assert line["sead-context-frames"] == [0, 1, 5, 6]
    sequence = target.read_json(f"{task.clip.name}/sequence.json")
    assert {**sequence, "frames": None} == {"seq-no": 1, "prefix": prefix, "number-of-frames": 7, "frames": None}
    for number, (row, item) in enumerate(zip(sequence["frames"], task.frames, strict=True)):
        assert row.keys() == {"frame-no", "unix-timestamp", "frame", "format", "ego-vehicle-pose", "images"}
        assert (row["frame-no"], row["format"]) == (number, "binary/xyzi")
        assert row["unix-timestamp"] == item.frame.timestamp_us / 1e6
        assert_pose(row["ego-vehicle-pose"])
        points = np.frombuffer(target.read_bytes(f"{task.clip.name}/{row['frame']}"), "<f4").reshape(-1, 4)
        check_points(points[:, :3], truth[item.frame.token])
        for image in row["images"]:
            check_camera(image, points, target.read_bytes(f"{task.clip.name}/{image['image-path']}"))


def assert_pose(row: dict[str, Any]) -> np.ndarray:
    """(4, 4) of a pose as documented."""
    assert row.keys() == POSE
    place, turn = row["position"], row["heading"]
    assert (place.keys(), turn.keys()) == ({"x", "y", "z"}, {"qx", "qy", "qz", "qw"})
    return Pose((place["x"], place["y"], place["z"]), (turn["qw"], turn["qx"], turn["qy"], turn["qz"])).matrix


def check_camera(image: dict[str, Any], points: np.ndarray, data: bytes) -> None:
    """A pose that puts part of the cloud in front of the camera and into its image."""
    assert (image.keys(), image["camera-model"]) == (CAMERA, "pinhole")
    global_from_camera = assert_pose({key: image[key] for key in POSE})
    local = transform_points(invert(global_from_camera), points[:, :3])
    front = local[local[:, 2] > 1.0]
    height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    u = image["fx"] * front[:, 0] / front[:, 2] + image["cx"]
    v = image["fy"] * front[:, 1] / front[:, 2] + image["cy"]
    assert ((u > 0) & (u < width) & (v > 0) & (v < height)).mean() > 0.05


def test_ground_truth_needs_a_place_in_s3(task: LabelTask, sources: Sources, tmp_path: Path) -> None:
    local = Sources(sources.data, sources.sweeps)
    with pytest.raises(InputError, match="--files_at s3://bucket/folder"):
        EXPORTERS["ground_truth"]([task], Store(str(tmp_path)), local)


@pytest.mark.parametrize("tool", ["cvat", "ground_truth"])
def test_a_frame_without_a_sweep_is_named(
    tool: Literal["cvat", "ground_truth"], task: LabelTask, sources: Sources, tmp_path: Path
) -> None:
    without = Sources(sources.data, {}, sources.files_at)
    with pytest.raises(InputError, match=f"Frame {task.frames[0].frame.token} has no lidar sweep"):
        EXPORTERS[tool]([task], Store(str(tmp_path)), without)


def test_ground_truth_goes_straight_into_a_bucket(task: LabelTask, sources: Sources, s3_bucket: str) -> None:
    target = Store(f"{s3_bucket}/request")
    EXPORTERS["ground_truth"]([task], target, Sources(sources.data, sources.sweeps))
    line = json.loads(target.read_bytes("sequences.manifest"))
    name, _, key = line["source-ref"].removeprefix("s3://").partition("/")
    assert Store(f"s3://{name}").read_json(key)["prefix"] == f"{s3_bucket}/request/{task.clip.name}/"
