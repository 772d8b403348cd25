"""Small records made by hand, for tests that need no world."""

from __future__ import annotations

import numpy as np

from sead_ray.geometry import Pose, quaternion_from_heading
from sead_ray.records import (
    CAMERAS,
    Annotation,
    Camera,
    Clip,
    ClipScore,
    Command,
    Frame,
    FrameLabels,
    MapVector,
    Selection,
)


def make_frame(token: str, index: int = 0) -> Frame:
    pose = Pose((100.5 + index, -3.25, 0.125), quaternion_from_heading(0.3 + 0.1 * index))
    cameras = tuple(
        Camera(
            name=name,
            key=f"samples/{name}/{token}.jpg",
            width=1600,
            height=900,
            timestamp_us=500_000 * index + number,
            intrinsics=np.array([[1266.4, 0.0, 816.3], [0.0, 1266.5, 491.5], [0.0, 0.0, 1.0]]),
            ego_from_camera=Pose((1.7, 0.1 * number, 1.5), (0.5, -0.5, 0.5, -0.5)),
            global_from_ego=pose,
        )
        for number, name in enumerate(CAMERAS)
    )
    lidar = Pose((0.94, 0.0, 1.84), quaternion_from_heading(-np.pi / 2))
    return Frame(token, 500_000 * index, pose, lidar, np.arange(18.0) / 7, Command.LEFT, cameras)


def make_clip(token: str = "clip-a", n_frames: int = 3, split: str = "pool") -> Clip:
    return Clip(
        clip_token=token,
        name=f"scene-{token}",
        log_token=f"log-{token}",
        location="singapore-onenorth",
        split=split,
        description="Night, rain",
        is_night=True,
        is_rainy=False,
        behaviour="left",
        acc_std_mps2=0.75,
        yaw_sum_rad=1.5,
        dynamics_source="can",
        frames=tuple(make_frame(f"{token}-f{index}", index) for index in range(n_frames)),
    )


def make_labels(frame_token: str, clip_token: str = "clip-a") -> FrameLabels:
    box = Annotation("instance", "vehicle.car", 17, (1.0, 2.0, 0.5), (1.9, 4.5, 1.6), (1.0, 0.0, 0.0, 0.0), 12, 3)
    vectors = (
        MapVector(2, np.array([[0.0, -30.0], [0.5, 0.25], [1.0, 30.0]])),
        MapVector(0, np.array([[1.0, 2.0], [3.0, 4.0]])),
    )
    return FrameLabels(frame_token, clip_token, 1_500_000, (box, box), vectors)


def make_score(token: str = "clip-a") -> ClipScore:
    return ClipScore(
        clip_token=token,
        model_version="v1",
        status="ok",
        n_frames=3,
        dt_s=0.5,
        shift_agents=[0.25, 0.5],
        shift_map=[0.125, 0.75],
        n_transitions=2,
        shift_sum=1.625,
        shift_mean=0.8125,
        min_distance_m=[4.5, float("inf"), 2.0],
        is_key=[True, False, True],
        key_start=0,
        key_length=1,
        max_confidence=0.875,
        embedding=[0.5, -0.25],
    )


def make_selection(token: str = "clip-a", start: int = 0, stop: int = 3, number: int = 0) -> Selection:
    return Selection(number, token, start, stop, 1, None, "night", "first by stratum", stop - start)
