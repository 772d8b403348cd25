"""A made-up clip: straight on at 8 m/s through coarse noise that drifts by. For trials and measurements; no Ray."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import can_bus_vector
from sead_ray.records import CAMERAS, Camera, Clip, Command, Frame
from sead_ray.synthetic.rig import CAMERAS as RIG
from sead_ray.synthetic.rig import EGO_FROM_LIDAR

INTERVAL_US, STEP_M = 500_000, 4.0
MOVED_SHARE = 1 / 40  # of an image's width, from frame to frame
GRAINS = 20  # across an image: coarse noise has edges at all scales that a network looks for
JPEG_QUALITY = 90


def noise_clip(token: str, n_frames: int, width: int, height: int) -> Clip:
    """Its images are `noise_images`, under the keys `<token>/<frame>_<camera>.jpg`."""
    return Clip(
        clip_token=token,
        name=token,
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
        frames=tuple(_frame(token, index, width, height) for index in range(n_frames)),
    )


def noise_images(n_frames: int, width: int, height: int) -> NDArray[np.uint8]:
    """(n_frames, 6, height, width, 3), always the same."""
    coarse = np.random.default_rng(10).integers(0, 256, (len(CAMERAS), GRAINS, GRAINS, 3), np.uint8)
    views = [cv2.resize(view, (width, height), interpolation=cv2.INTER_LINEAR) for view in coarse]
    step = max(1, round(MOVED_SHARE * width))
    return np.stack([[np.roll(view, step * index, axis=1) for view in views] for index in range(n_frames)])


def write_noise_clip(root: str, token: str, n_frames: int, width: int, height: int) -> Clip:
    """The clip with its JPEGs below the folder `root`."""
    clip = noise_clip(token, n_frames, width, height)
    for frame, views in zip(clip.frames, noise_images(n_frames, width, height)):
        for camera, view in zip(frame.cameras, views):
            path = Path(root) / camera.key
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), view, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return clip


def _frame(token: str, index: int, width: int, height: int) -> Frame:
    timestamp_us = INTERVAL_US * (index + 1)
    pose = Pose((STEP_M * index, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    by_name = {camera.name: camera for camera in RIG}
    cameras = tuple(
        Camera(
            name=name,
            key=f"{token}/{index:03d}_{name}.jpg",
            width=width,
            height=height,
            timestamp_us=timestamp_us,
            intrinsics=by_name[name].intrinsics(width, height),
            ego_from_camera=by_name[name].ego_from_camera,
            global_from_ego=pose,
        )
        for name in CAMERAS
    )
    can_bus = can_bus_vector(timestamp_us, pose, None)
    return Frame(f"{token}-{index}", timestamp_us, pose, EGO_FROM_LIDAR, can_bus, Command.STRAIGHT, cameras)
