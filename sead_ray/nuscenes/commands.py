"""The recorded drive of the ego: futures, history, driving command, behaviour. Free data: no annotation is needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import invert, transform_points
from sead_ray.records import FUTURE_STEPS, Command

TURN_OFFSET_M = 2.0  # VAD: lateral offset of the last future point that makes a turn
HISTORY_STEPS = 2  # VAD

Array = NDArray[np.float64]


def ego_future(global_from_lidar: Array, index: int) -> tuple[Array, Array]:
    """(6, 2) per-step offsets of the lidar origin in the lidar frame of frame `index`, and their mask (6,).

    Where the clip ends early the last position repeats: offset 0, mask 0 (VAD's converter).

    Args:
        global_from_lidar: (T, 4, 4) of the clip's key frames.
    """
    last = len(global_from_lidar) - 1
    steps = np.minimum(index + np.arange(FUTURE_STEPS + 1), last)
    positions = transform_points(invert(global_from_lidar[index]), global_from_lidar[steps, :3, 3])[:, :2]
    mask = (index + np.arange(1, FUTURE_STEPS + 1) <= last).astype(np.float64)
    return np.diff(positions, axis=0) * mask[:, None], mask


def ego_history(global_from_lidar: Array, index: int) -> tuple[Array, Array]:
    """(2, 2) per-step offsets up to now, in the lidar frame of `index`, and their mask (2,).

    Before the clip the earliest known step repeats (VAD's converter) with mask 0; in a clip of one frame it is 0.
    """
    steps = index + np.arange(-HISTORY_STEPS, 0)
    known = transform_points(invert(global_from_lidar[index]), global_from_lidar[:, :3, 3])[:, :2]
    offsets = np.diff(known, axis=0)
    mask = (steps >= 0).astype(np.float64)
    if len(offsets) == 0:
        return np.zeros((HISTORY_STEPS, 2)), mask
    return offsets[np.maximum(steps, 0)], mask


def command_of(future_offsets: Array) -> Command:
    """VAD: by the lateral (x) position of the last future point; +-2 m and beyond is a turn."""
    lateral_m = float(future_offsets[:, 0].sum())
    if lateral_m >= TURN_OFFSET_M:
        return Command.RIGHT
    if lateral_m <= -TURN_OFFSET_M:
        return Command.LEFT
    return Command.STRAIGHT


def behaviour_of(commands: Sequence[Command], overtake_frames: int) -> str:
    """A clip's behaviour after ActiveAD: enough frames of both turns make an overtake, of one only a turn."""
    left = sum(command == Command.LEFT for command in commands) >= overtake_frames
    right = sum(command == Command.RIGHT for command in commands) >= overtake_frames
    if left and right:
        return "overtake"
    return "left" if left else "right" if right else "straight"
