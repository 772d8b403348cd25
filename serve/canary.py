"""A made-up clip, always the same: what a model is warmed and tried with before anybody's clip meets it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.config import ImageConfig
from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import can_bus_vector
from sead_ray.nuscenes.images import image_geometry
from sead_ray.records import CAMERAS, Camera, Clip, Command, Frame
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.synthetic.rig import CAMERAS as RIG
from sead_ray.synthetic.rig import EGO_FROM_LIDAR

FRAMES, INTERVAL_US, STEP_M = 3, 500_000, 4.0
WIDTH, HEIGHT = 1600, 900
MOVED_PX = 16  # of the network's image, from frame to frame
GRAIN = 32  # pixels: coarse noise has edges at all scales that a network looks for


@lru_cache(maxsize=4)
def canary_clip(image: ImageConfig) -> LoadedClip:
    """Straight on at 8 m/s through noise that drifts by."""
    frames = tuple(_frame(index) for index in range(FRAMES))
    geometry = image_geometry(frames[0], image)
    images = np.zeros((FRAMES, len(CAMERAS), geometry.padded_height, geometry.width, 3), np.uint8)
    for camera, view in enumerate(_noise(geometry.height, geometry.width)):
        for index in range(FRAMES):
            images[index, camera, : geometry.height] = np.roll(view, MOVED_PX * index, axis=1)
    clip = Clip(
        clip_token="canary",
        name="canary",
        log_token="",
        location="",
        split="pool",
        description="",
        is_night=False,
        is_rainy=False,
        behaviour="straight",
        acc_std_mps2=0.0,
        yaw_sum_rad=0.0,
        dynamics_source="pose",
        frames=frames,
    )
    return LoadedClip(clip, images, geometry)


def _noise(height: int, width: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(10)
    coarse = rng.integers(0, 256, (len(CAMERAS), -(-height // GRAIN), -(-width // GRAIN), 3), np.uint8)
    return [np.asarray(cv2.resize(view, (width, height), interpolation=cv2.INTER_LINEAR)) for view in coarse]


def _frame(index: int) -> Frame:
    timestamp_us = INTERVAL_US * (index + 1)
    pose = Pose((STEP_M * index, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    by_name = {camera.name: camera for camera in RIG}
    cameras = tuple(
        Camera(
            name=name,
            key=f"{index}/{name}",
            width=WIDTH,
            height=HEIGHT,
            timestamp_us=timestamp_us,
            intrinsics=by_name[name].intrinsics(WIDTH, HEIGHT),
            ego_from_camera=by_name[name].ego_from_camera,
            global_from_ego=pose,
        )
        for name in CAMERAS
    )
    can_bus = can_bus_vector(timestamp_us, pose, None)
    return Frame(str(index), timestamp_us, pose, EGO_FROM_LIDAR, can_bus, Command.STRAIGHT, cameras)
