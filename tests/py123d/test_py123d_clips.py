"""What a log of py123d says must come out as nuScenes would have said it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest

from sead_ray.config import DataConfig, ImageConfig
from sead_ray.geometry import image_from_lidar, invert, transform_points
from sead_ray.image_keys import read_image
from sead_ray.nuscenes.images import decode_frame
from sead_ray.nuscenes.targets import build_targets
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.clips import NUSCENES_LIDAR, LogClips
from sead_ray.py123d.folder import Py123dFolder
from sead_ray.py123d.images import require_images
from sead_ray.py123d.key_frames import half_second_runs
from sead_ray.py123d.labels import log_labels
from sead_ray.py123d.maps import load_map, map_key
from sead_ray.records import CAMERAS, Clip, Command
from sead_ray.storage import Store
from tests.py123d.conftest import PLANS
from tests.py123d.scene_writer import HEIGHT, START_US, WIDTH, edited, ego_pose, jpeg


def log_clips(data: DataConfig, name: str) -> LogClips:
    plan = PLANS[name]
    return LogClips(ArrowLog(Store(data.root), f"logs/{plan.split}/{plan.name}"), data)


@pytest.mark.parametrize("name", ["left", "right"])
def test_poses_images_and_tokens_are_those_of_the_log(py123d_data: DataConfig, name: str) -> None:
    plan, found = PLANS[name], log_clips(py123d_data, name)
    clip = found.clips("pool")[0]
    assert [camera.name for camera in clip.frames[0].cameras] == list(CAMERAS)
    for index, frame in enumerate(clip.frames):
        assert frame.timestamp_us == START_US + 500_000 * index
        pose = ego_pose(plan, frame.timestamp_us)
        np.testing.assert_allclose(
            [*frame.global_from_ego.translation_m, *frame.global_from_ego.rotation_wxyz], pose, atol=1e-9
        )
        assert uuid.UUID(frame.token).version == 5
        for camera in frame.cameras:  # a camera that sees at the frame's time sees from the frame's pose
            np.testing.assert_allclose(camera.global_from_ego.matrix, frame.global_from_ego.matrix, atol=1e-9)
    row = 3 if plan.rate_hz == 2 else 15
    assert read_image(found.log.store, clip.frames[3].cameras[1].key) == jpeg(5 * 1000 + row)  # CAM_FRONT_RIGHT: r0


def test_the_lidar_frame_has_x_to_the_right_and_projects_into_the_images(py123d_data: DataConfig) -> None:
    frame = log_clips(py123d_data, "left").clips("pool")[0].frames[2]
    assert frame.ego_from_lidar.translation_m == (1.0, 0.1, 1.9)
    for camera, yaw_deg in zip(frame.cameras, (0, -55, 55, 180, 110, -110), strict=True):
        ahead = np.array([np.sin(-np.radians(yaw_deg)), np.cos(np.radians(yaw_deg))]) * 20
        matrix = image_from_lidar(
            camera.intrinsics,
            camera.ego_from_camera.matrix,
            camera.global_from_ego.matrix,
            frame.global_from_ego.matrix,
            frame.ego_from_lidar.matrix,
        )
        u, v, depth, _ = matrix @ [*ahead, -0.4, 1.0]
        assert depth > 15
        assert abs(u / depth - WIDTH / 2) < 15
        assert abs(v / depth - HEIGHT / 2) < 8


def test_commands_behaviour_and_dynamics_come_from_the_drive(py123d_data: DataConfig) -> None:
    left, right, ahead = (log_clips(py123d_data, name).clips("pool")[0] for name in ("left", "right", "ahead"))
    assert (left.behaviour, right.behaviour, ahead.behaviour) == ("left", "right", "straight")
    assert left.frames[0].command == Command.LEFT
    assert left.yaw_sum_rad == pytest.approx(0.15 * 3.5)
    assert (left.dynamics_source, left.acc_std_mps2) == ("can", pytest.approx(0.05))
    np.testing.assert_allclose(left.frames[1].can_bus[7:16], [0.1, 1.0, 0, 0, 0, 0.15, 6.0, 0, 0])
    assert (ahead.dynamics_source, ahead.acc_std_mps2) == ("pose", pytest.approx(0.0, abs=1e-6))
    assert not ahead.frames[0].can_bus[7:16].any()
    off = log_clips(py123d_data.model_copy(update={"can_bus": "off"}), "left").clips("pool")[0]
    assert off.dynamics_source == "pose"


def test_a_long_log_is_cut_into_clips(py123d_data: DataConfig) -> None:
    clips = log_clips(py123d_data, "ahead").clips("pool")
    assert [(clip.name, len(clip.frames)) for clip in clips] == [("ahead-000", 8), ("ahead-001", 4)]
    assert len({clip.clip_token for clip in clips}) == 2
    assert {clip.log_token for clip in clips} == {"ahead"}
    assert Clip.from_row(clips[1].to_row()).to_row() == clips[1].to_row()


def test_images_are_those_nearest_in_time(py123d_copy: Path) -> None:
    """py123d's deferred sync leaves a late image out, or names the one before."""

    def late(_: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["camera.pcam_l1.timestamp_us"] += 2_000

    def as_deferred(_: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        for number, row in enumerate(rows):
            row["camera.pcam_l1"] = number - 1 if number else None

    folder = py123d_copy / "logs/nuplan_train/left"
    edited(folder / "camera.pcam_l1.arrow", late)
    edited(folder / "sync.arrow", as_deferred)
    clip = log_clips(DataConfig(root=str(py123d_copy), format="py123d"), "left").clips("pool")[0]
    assert [frame.cameras[4].key.rpartition("#")[2] for frame in clip.frames] == [str(row) for row in range(9)]
    assert {frame.cameras[4].timestamp_us - frame.timestamp_us for frame in clip.frames} == {2_000}


def test_zeros_for_motion_are_no_motion(py123d_copy: Path) -> None:
    """What py123d writes of nuScenes' scenes without CAN."""

    def still(_: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["ego_state_se3.dynamic_state_se3"] = [0.0] * 9

    edited(py123d_copy / "logs/nuplan_train/left/ego_state_se3.arrow", still)
    clip = log_clips(DataConfig(root=str(py123d_copy), format="py123d"), "left").clips("pool")[0]
    assert clip.dynamics_source == "pose"
    assert clip.yaw_sum_rad > 0


@pytest.mark.parametrize(
    ("seconds", "runs"),
    [
        ([0, 0.5, 1.0, 1.5], [[0, 1, 2, 3]]),
        ([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [[0, 5], [6]]),
        ([0, 0.45, 1.02, 1.5], [[0, 1, 2, 3]]),
        ([0, 0.5, 3.0, 3.5], [[0, 1], [2, 3]]),
        ([0, 0.75, 1.25], [[0], [1, 2]]),
        ([0], [[0]]),
        ([], []),
    ],
)
def test_key_frames_lie_half_a_second_apart(seconds: list[float], runs: list[list[int]]) -> None:
    times = np.array([round(second * 1e6) for second in seconds], np.int64)
    assert half_second_runs(times, np.arange(len(times))) == runs


def test_boxes_become_targets_of_vad(py123d_data: DataConfig) -> None:
    found = log_clips(py123d_data, "left")
    clip = found.clips("pool")[0]
    key = map_key(found.log)
    assert key == "maps/nuplan/nuplan_us-nv-las-vegas-strip.arrow"
    labels = {item.frame_token: item for item in log_labels(found, load_map(found.log.store, key))}
    targets = build_targets(clip, 2, labels)
    assert targets.labels.tolist() == [0, 8]  # the car ahead and the pedestrian; a sign is no object
    lidar_from_global = invert(clip.frames[2].global_from_lidar)
    car = labels[clip.frames[2].token].annotations[0]
    assert car.size_wlh_m == (1.9, 4.5, 1.6)
    np.testing.assert_allclose(targets.boxes[0, :2], [-1.9, 11.0], atol=1e-3)  # 12 m ahead of the axle, 2 m left
    np.testing.assert_allclose(targets.boxes[0, :3], transform_points(lidar_from_global, car.translation_m), atol=1e-3)
    assert np.hypot(*targets.boxes[0, 7:9]) == pytest.approx(6.0, rel=0.1)
    assert (car.n_lidar_points, labels[clip.frames[2].token].annotations[1].n_lidar_points) == (7, 1)
    classes = [vector.map_class for vector in labels[clip.frames[0].token].map_vectors]
    assert sorted(set(classes)) == [0, 1, 2]
    assert all(not item.map_vectors for item in log_labels(found, None))


def test_a_log_without_lidar_takes_nuscenes_mounting(py123d_copy: Path) -> None:
    (py123d_copy / "logs/nuplan_train/left/lidar.lidar_merged.arrow").unlink()
    found = log_clips(DataConfig(root=str(py123d_copy), format="py123d"), "left")
    assert found.clips("pool")[0].frames[0].ego_from_lidar == NUSCENES_LIDAR


def test_clips_do_not_know_of_labels(py123d_data: DataConfig, py123d_copy: Path) -> None:
    (py123d_copy / "logs/nuplan_train/left/box_detections_se3.arrow").unlink()
    bare = DataConfig(root=str(py123d_copy), format="py123d", clip_frames=8)
    before, after = (log_clips(data, "left").clips("pool") for data in (py123d_data, bare))
    assert [clip.to_row() for clip in before] == [clip.to_row() for clip in after]


def test_logs_in_a_bucket_are_the_same(py123d_data: DataConfig, s3_bucket: str) -> None:
    pafs.copy_files(py123d_data.root, f"{s3_bucket}/py123d")
    there = py123d_data.model_copy(update={"root": f"{s3_bucket}/py123d"})
    assert [log.key for log in Py123dFolder(there).pool_logs()] == [
        log.key for log in Py123dFolder(py123d_data).pool_logs()
    ]
    for name in ("left", "right"):  # images inside the Arrow files, and beside them
        here, remote = log_clips(py123d_data, name), log_clips(there, name)
        clip = remote.clips("pool")[0]
        assert clip.to_row() == here.clips("pool")[0].to_row()
        require_images(remote.log.store, [clip])
        image = ImageConfig(width=64)
        images = [decode_frame(clips.log.store, clip.frames[-1], image)[0] for clips in (here, remote)]
        np.testing.assert_array_equal(*images)
        maps = [load_map(clips.log.store, str(map_key(clips.log))) for clips in (here, remote)]
        labels = [log_labels(clips, found)[0].to_row() for clips, found in zip((here, remote), maps, strict=True)]
        assert labels[0] == labels[1]


def test_splits_are_folders_their_endings_lists_or_files(py123d_copy: Path) -> None:
    def names(split: object) -> list[str]:
        folder = Py123dFolder(DataConfig(root=str(py123d_copy), format="py123d", pool_split=split))
        return [log.name for log in folder.pool_logs()]

    assert names("train") == names("nuplan_train") == ["ahead", "left", "right"]
    assert names(["right", "val"]) == ["right", "val"]
    (py123d_copy / "mine.txt").write_text("left\n")
    assert names(str(py123d_copy / "mine.txt")) == ["left"]
    (py123d_copy / "splits.json").write_text('{"pool": ["ahead"]}')
    assert (names("pool"), names("val")) == (["ahead"], ["val"])
    (py123d_copy / "logs/nuplan_val").rename(py123d_copy / "logs/nuplan-mini_val")
    assert names("mini_val") == names("val") == ["val"]
