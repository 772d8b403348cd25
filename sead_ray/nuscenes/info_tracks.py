"""Which boxes of VAD's infos are the same object: the files hold no instance token, but where each box goes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sead_ray.errors import InputError
from sead_ray.geometry import invert, transform_points

TOLERANCE_M = 0.01  # futures are float32 sums of the very same numbers: they agree to micrometres

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrameBoxes:
    """The boxes of one key frame.

    Attributes:
        token: of the frame.
        global_from_lidar: (4, 4).
        centers_m: (n, 3) in the lidar frame.
        names: n names or categories; the same object keeps its own.
        next_offset_m: (n, 2) to the object's next annotation, in this frame's lidar axes.
        has_next: (n,) whether there is one.
    """

    token: str
    global_from_lidar: Array
    centers_m: Array
    names: Sequence[str]
    next_offset_m: Array
    has_next: NDArray[np.bool_]


@dataclass(frozen=True)
class _Expected:
    """An object whose next annotation has not been met yet."""

    track: int
    name: str
    frame: FrameBoxes
    xy_m: Array  # (2,) in the lidar frame of `frame`


def assign_tracks(frames: Sequence[FrameBoxes], is_whole: bool) -> list[list[int]]:
    """The number of the object of every box, for each of a scene's frames in order.

    An object may be missing from some frames in between: it is looked for in each later one.

    Args:
        is_whole: the frames are the scene's last ones; then every announced next annotation must be found.
    """
    out: list[list[int]] = []
    waiting: list[_Expected] = []
    count = 0
    for frame in frames:
        followed = _followed(waiting, frame)
        tracks = []
        for index in range(len(frame.centers_m)):
            if index in followed:
                tracks.append(followed[index].track)
            else:
                tracks.append(count)
                count += 1
        met = set(tracks)
        waiting = [item for item in waiting if item.track not in met] + _announced(frame, tracks)
        out.append(tracks)
    if is_whole and waiting:
        lost = waiting[0]
        raise InputError(
            f"The {lost.name} at {np.round(lost.xy_m, 2).tolist()} that info {lost.frame.token} announces is in no "
            "later info of its scene."
        )
    return out


def _followed(waiting: Sequence[_Expected], frame: FrameBoxes) -> dict[int, _Expected]:
    """Box of the frame → the expectation that it meets; one to one, and the nearest taken together."""
    if not waiting or not len(frame.centers_m):
        return {}
    apart_m = np.full((len(waiting), len(frame.centers_m)), np.inf)
    for row, item in enumerate(waiting):
        expected_from_here = invert(item.frame.global_from_lidar) @ frame.global_from_lidar
        there = transform_points(expected_from_here, frame.centers_m)[:, :2]
        apart_m[row] = np.linalg.norm(there - item.xy_m, axis=1)
        apart_m[row, [name != item.name for name in frame.names]] = np.inf
    admitted = apart_m <= TOLERANCE_M
    rows, columns = linear_sum_assignment(np.where(admitted, apart_m, 1.0))
    return {int(column): waiting[row] for row, column in zip(rows, columns) if admitted[row, column]}


def _announced(frame: FrameBoxes, tracks: Sequence[int]) -> list[_Expected]:
    goals = frame.centers_m[:, :2] + frame.next_offset_m
    return [
        _Expected(track, frame.names[index], frame, goals[index])
        for index, track in enumerate(tracks)
        if frame.has_next[index]
    ]
