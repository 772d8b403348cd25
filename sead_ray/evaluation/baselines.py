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

    The lidar origin's last displacement is repeated, a key frame for a step whatever time passed: the target's steps
    are key frames as well. A clip's first frame has no displacement: its velocity is that of the CAN vector, which is
    0 where the scene has no CAN data.
    """
    if not clip.frames:
        return np.zeros((0, FUTURE_STEPS, 2))
    steps = [_can_velocity_mps(clip.frames[0]) * STEP_S]
    steps += [_displacement_m(before, frame) for before, frame in zip(clip.frames, clip.frames[1:])]
    return np.repeat(np.stack(steps)[:, None], FUTURE_STEPS, axis=1)


def _displacement_m(before: Frame, frame: Frame) -> NDArray[np.float64]:
    """(2,) from the frame before, x, y in the frame's lidar axes."""
    return -(invert(frame.global_from_lidar) @ before.global_from_lidar)[:2, 3]


def _can_velocity_mps(frame: Frame) -> NDArray[np.float64]:
    """(2,) x, y in the frame's lidar axes."""
    lidar_from_ego = invert(frame.ego_from_lidar.matrix)[:3, :3]
    return (lidar_from_ego @ np.asarray(frame.can_bus[CAN_VELOCITY], np.float64))[:2]
