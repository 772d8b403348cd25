"""Clips: what free data say, round trips, and that no annotation is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sead_ray.config import DataConfig
from sead_ray.geometry import invert, quaternion_from_heading, rotation_matrix, transform_points
from sead_ray.nuscenes.can_bus import SCENES_WITHOUT_CAN
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.commands import behaviour_of, command_of, ego_future, ego_history
from sead_ray.nuscenes.conditions import is_night, is_rainy
from sead_ray.nuscenes.dynamics import dynamics_from_poses
from sead_ray.records import CAMERAS, Clip, Command, FrameLabels
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.storage import Store


def clip_named(folder: NuScenesFolder, name: str) -> Clip:
    return folder.clip(f"token-{name}", "pool")


def test_split_holds_its_scenes_in_the_order_of_names(folder: NuScenesFolder) -> None:
    assert folder.scenes("train") == ["token-scene-0001", "token-scene-0003", "token-scene-0161"]
    assert folder.scenes("val") == ["token-scene-0002"]


def test_clips_and_labels_survive_parquet(folder: NuScenesFolder, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    clips = [folder.clip(token, "pool") for token in folder.scenes("train")]
    rows = [clip.to_row() for clip in clips]
    store.write_table("clips.parquet", rows, CLIP_SCHEMA)
    read = [Clip.from_row(row) for row in store.iter_rows("clips.parquet", CLIP_SCHEMA)]
    assert [clip.to_row() for clip in read] == rows
    labels = [label for clip in clips for label in folder.labels(clip.clip_token)]
    store.write_table("labels.parquet", (label.to_row() for label in labels), LABEL_SCHEMA)
    again = [FrameLabels.from_row(row) for row in store.iter_rows("labels.parquet", LABEL_SCHEMA)]
    assert [label.to_row() for label in again] == [label.to_row() for label in labels]
    assert all(label.annotations and label.map_vectors for label in labels[:3])


def test_clips_are_the_same_with_every_annotation_deleted(folder: NuScenesFolder, damaged_copy: Path) -> None:
    for name in ("sample_annotation", "instance", "category"):
        (damaged_copy / "v1.0-mini" / f"{name}.json").unlink()
    shutil.rmtree(damaged_copy / "maps")
    bare = NuScenesFolder(DataConfig(root=str(damaged_copy), version="v1.0-mini"))
    for token in [*folder.scenes("train"), *folder.scenes("val")]:
        assert bare.clip(token, "val").to_row() == folder.clip(token, "val").to_row()


def test_frames_hold_six_cameras_in_order_and_no_sweep(folder: NuScenesFolder) -> None:
    clip = clip_named(folder, "scene-0001")
    assert len(clip.frames) == 8
    for frame in clip.frames:
        assert tuple(camera.name for camera in frame.cameras) == CAMERAS
        assert all(camera.key.startswith(f"samples/{camera.name}/") for camera in frame.cameras)


def test_ego_future_walks_to_the_later_poses(folder: NuScenesFolder) -> None:
    clip = clip_named(folder, "scene-0001")
    poses = np.stack([frame.global_from_lidar for frame in clip.frames])
    offsets, mask = ego_future(poses, 1)
    expected = transform_points(invert(poses[1]), poses[2:8, :3, 3])[:, :2]
    np.testing.assert_allclose(offsets.cumsum(axis=0), expected, atol=1e-9)
    assert mask.tolist() == [1] * 6
    offsets, mask = ego_future(poses, 5)
    assert mask.tolist() == [1, 1, 0, 0, 0, 0]
    assert (offsets[2:] == 0).all()
    assert (offsets[:2, 1] > 3).all()  # forward is y


def test_ego_history_leads_to_the_current_frame(folder: NuScenesFolder) -> None:
    poses = np.stack([frame.global_from_lidar for frame in clip_named(folder, "scene-0001").frames])
    before = transform_points(invert(poses[4]), poses[2:5, :3, 3])[:, :2]
    offsets, mask = ego_history(poses, 4)
    np.testing.assert_allclose(offsets, np.diff(before, axis=0), atol=1e-9)
    assert mask.tolist() == [1, 1]
    first, mask = ego_history(poses, 0)
    np.testing.assert_array_equal(first[0], first[1])
    assert mask.tolist() == [0, 0]
    assert ego_history(poses, 1)[1].tolist() == [0, 1]


def test_commands_follow_the_turn(folder: NuScenesFolder) -> None:
    assert clip_named(folder, "scene-0001").frames[0].command == Command.RIGHT
    assert clip_named(folder, "scene-0002").frames[0].command == Command.LEFT
    assert {frame.command for frame in clip_named(folder, "scene-0003").frames} == {Command.STRAIGHT}
    assert clip_named(folder, "scene-0001").behaviour == "right"
    assert clip_named(folder, "scene-0002").behaviour == "left"


@pytest.mark.parametrize(
    ("lateral_m", "command"),
    [(2.0, Command.RIGHT), (1.999, Command.STRAIGHT), (-1.999, Command.STRAIGHT), (-2.0, Command.LEFT)],
)
def test_command_turns_at_two_metres(lateral_m: float, command: Command) -> None:
    assert command_of(np.array([[lateral_m / 2, 3.0], [lateral_m / 2, 3.0]])) == command


def test_behaviour_counts_frames_of_each_turn() -> None:
    left, right, straight = [Command.LEFT], [Command.RIGHT], [Command.STRAIGHT]
    assert behaviour_of(left * 3 + right * 3 + straight * 30, 3) == "overtake"
    assert behaviour_of(left * 3 + right * 2, 3) == "left"
    assert behaviour_of(left * 2 + right * 3, 3) == "right"
    assert behaviour_of(left * 2 + right * 2, 3) == "straight"


def lane_change(width_m: float, seconds: float, speed_mps: float = 10.0) -> np.ndarray:
    """(40, 4, 4) lidar poses of a drive that moves to the left by `width_m` within `seconds`."""
    time_s = np.arange(40) * 0.5
    part = np.clip((time_s - 6) / seconds, 0, 1)
    y = width_m * (part - np.sin(2 * np.pi * part) / (2 * np.pi))
    slope = np.gradient(y, 0.5) / speed_mps
    poses = np.tile(np.eye(4), (40, 1, 1))
    for pose, heading in zip(poses, np.arctan(slope)):
        pose[:3, :3] = rotation_matrix(quaternion_from_heading(heading - np.pi / 2))
    poses[:, 0, 3], poses[:, 1, 3] = speed_mps * time_s, y
    return poses


def test_overtakes_are_found_up_to_the_default_threshold() -> None:
    tau = DataConfig().overtake_frames
    poses = lane_change(3.5, 4.0)
    commands = [command_of(ego_future(poses, index)[0]) for index in range(len(poses))]
    assert behaviour_of(commands, tau) == "overtake"  # a lane change steers to both sides
    assert behaviour_of(commands, tau + 1) == "straight"
    gentle = lane_change(3.5, 8.0)
    assert behaviour_of([command_of(ego_future(gentle, index)[0]) for index in range(40)], 1) == "straight"


def test_conditions_take_whole_words(folder: NuScenesFolder) -> None:
    assert is_night("Night, difficult lighting")
    assert is_night("at NIGHT")
    assert not is_night("overnight parking")
    assert not is_rainy("Train station, drained pond")
    assert is_rainy("Rain, parked cars")
    assert is_rainy("rainy")
    assert is_rainy("After rain")
    assert [clip_named(folder, f"scene-{n}").is_night for n in ("0001", "0002", "0161")] == [False, True, True]


def test_can_vector_takes_the_first_message_after_the_key_frame(folder: NuScenesFolder) -> None:
    frame = clip_named(folder, "scene-0001").frames[2]
    np.testing.assert_array_equal(
        frame.can_bus[:7], [*frame.global_from_ego.translation_m, *frame.global_from_ego.rotation_wxyz]
    )
    assert frame.can_bus[15] == 50  # message 50 lies 3 ms after the frame at 1.0 s
    assert 0 <= frame.can_bus[16] < 2 * np.pi
    assert frame.can_bus[16] == pytest.approx((0.4 - 0.15 * 1.0) % (2 * np.pi))
    assert frame.can_bus[17] == pytest.approx(np.degrees(frame.can_bus[16]))


def test_dynamics_name_their_source(folder: NuScenesFolder, data_config: DataConfig) -> None:
    with_can, without = clip_named(folder, "scene-0001"), clip_named(folder, "scene-0002")
    assert (with_can.dynamics_source, without.dynamics_source) == ("can", "pose")
    assert clip_named(folder, "scene-0161").dynamics_source == "pose"  # the devkit's list wins over files
    assert (without.frames[0].can_bus[7:16] == 0).all()
    seconds = np.arange(0.003, 3.5, 0.02)
    assert with_can.acc_std_mps2 == pytest.approx(np.std(0.5 * np.sin(seconds)), rel=1e-2)
    assert with_can.yaw_sum_rad == pytest.approx(0.15 * 3.5, rel=1e-2)
    off = NuScenesFolder(data_config.model_copy(update={"can_bus": "off"})).clip("token-scene-0001", "pool")
    assert off.dynamics_source == "pose"
    assert off.yaw_sum_rad == pytest.approx(0.15 * 3.5, rel=1e-6)


def test_pose_dynamics_see_lateral_acceleration_only() -> None:
    time_us = np.arange(20) * 500_000
    poses = np.tile(np.eye(4), (20, 1, 1))
    poses[:, 0, 3] = (np.arange(20) * 0.5) ** 3  # speeds up along x: no lateral acceleration
    assert dynamics_from_poses(time_us, poses, np.zeros(20)) == pytest.approx((0, 0))
    poses[:, 1, 3] = 0.5 * (np.arange(20) * 0.5) ** 3  # y'' = 3 t
    acc, _ = dynamics_from_poses(time_us, poses, np.zeros(20))
    assert acc == pytest.approx(np.std(3 * np.arange(1, 19) * 0.5))
    wiggle = np.array([3.1, -3.1] * 10)  # across +-pi: small turns, not whole ones
    assert dynamics_from_poses(time_us, poses, wiggle)[1] == pytest.approx(19 * (2 * np.pi - 6.2))


def test_scenes_without_can_are_the_devkits(pristine_folder: Path) -> None:
    from nuscenes.can_bus.can_bus_api import NuScenesCanBus

    assert set(NuScenesCanBus(dataroot=str(pristine_folder)).can_blacklist) == SCENES_WITHOUT_CAN
