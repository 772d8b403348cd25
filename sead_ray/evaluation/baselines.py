"""Plans that need no camera: standing still and constant velocity, the fixed lines of comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import invert
from sead_ray.nuscenes.commands import ego_future
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


def step_l2_m(clip: Clip, plans_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 6) distances to the driven path at each step, of the n frames that have one before them and six after.

    No annotation is needed; so the given baselines of the literature count (Zhai et al. 2023).
    """
    steps = []
    for index in range(1, len(clip.frames) - FUTURE_STEPS):
        driven, _ = ego_future(clip.global_from_lidar, index)
        steps.append(np.linalg.norm((plans_m[index] - driven).cumsum(axis=0), axis=1))
    return np.reshape(steps, (-1, FUTURE_STEPS))


def mean_l2_m(step_l2: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Means over frames at 1, 2, 3 s and the mean of these: averaged up to the horizon (VAD), at it (UniAD)."""
    per_step = step_l2.mean(axis=0)
    averaged = [float(per_step[:stop].mean()) for stop in (2, 4, 6)]
    at_horizon = [float(per_step[stop - 1]) for stop in (2, 4, 6)]
    return [*averaged, float(np.mean(averaged))], [*at_horizon, float(np.mean(at_horizon))]
