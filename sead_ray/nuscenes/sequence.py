"""Frames in a row: the CAN vector's differences, and VAD's training queue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sead_ray.records import Frame


def can_bus_deltas(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """(T, 18) CAN vectors as the network takes them: [0:3] translation and [17] yaw in degrees are differences to
    the frame before in `frames`, 0 for the first; the rest is absolute.

    The difference of the angle is folded into [-180, 180). Upstream leaves +-360 where the yaw passes through 0:
    the same rotation of the BEV, but a leap in the MLP's input, which would pass for a shift of features.
    """
    absolute = np.stack([frame.can_bus for frame in frames]).astype(np.float64)
    deltas = absolute.copy()
    deltas[0, :3] = 0
    deltas[0, 17] = 0
    deltas[1:, :3] = np.diff(absolute[:, :3], axis=0)
    deltas[1:, 17] = (np.diff(absolute[:, 17]) + 180) % 360 - 180
    return deltas


def queue_indices(t: int, queue_length: int, rng: np.random.Generator) -> list[int]:
    """Frames of a training sample, oldest first and `t` last (VAD's queue): of the last `queue_length` frames one is
    dropped at random; before a clip's start a missing frame is replaced by a copy of the next one.
    """
    history = np.arange(t - queue_length, t)
    kept = np.delete(history, rng.integers(queue_length))
    indices = [t]
    for index in kept[::-1]:
        indices.insert(0, int(index) if index >= 0 else indices[0])
    return indices
