"""Plans that need no camera: standing still and constant velocity, the fixed lines of comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import invert
from sead_ray.records import FUTURE_STEPS, Clip, Frame

STEP_S = 0.5  # nuScenes key frames, 2 Hz
CAN_VELOCITY = slice(13, 16)  # of the CAN vector, m/s, in the ego frame


def standing_still_plans(clip: Clip) -> NDArray[np.float64]:
    """(T, 6, 2) per-step offsets of 0 for each of a clip's T frames."""
    return np.zeros((len(clip.frames), FUTURE_STEPS, 2))


def constant_velocity_plans(clip: Clip) -> NDArray[np.float64]:
    """(T, 6, 2) per-step offsets, in each frame's lidar frame, of going on as from the frame before.

    The velocity is the lidar origin's displacement since the frame before over the time that passed. A clip's first
    frame has no such displacement: its velocity is that of the CAN vector, which is 0 where the scene has no CAN data.
    """
    if not clip.frames:
        return np.zeros((0, FUTURE_STEPS, 2))
    velocities = [_can_velocity_mps(clip.frames[0])]
    velocities += [_pose_velocity_mps(before, frame) for before, frame in zip(clip.frames, clip.frames[1:])]
    return np.repeat(np.stack(velocities)[:, None] * STEP_S, FUTURE_STEPS, axis=1)


def _pose_velocity_mps(before: Frame, frame: Frame) -> NDArray[np.float64]:
    """(2,) x, y in the frame's lidar axes."""
    elapsed_s = (frame.timestamp_us - before.timestamp_us) * 1e-6
    lidar_before = (invert(frame.global_from_lidar) @ before.global_from_lidar)[:2, 3]
    return -lidar_before / elapsed_s


def _can_velocity_mps(frame: Frame) -> NDArray[np.float64]:
    """(2,) x, y in the frame's lidar axes."""
    lidar_from_ego = invert(frame.ego_from_lidar.matrix)[:3, :3]
    return (lidar_from_ego @ np.asarray(frame.can_bus[CAN_VELOCITY], np.float64))[:2]
