"""Key frames (Eq. 4) and their longest consecutive run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def key_frames(nearest_distance_m: ArrayLike, theta_distance_m: float) -> NDArray[np.bool_]:
    """(T,) Eq. 4: a confident road participant is strictly closer than theta_d; inf (nobody detected) is not a key."""
    return np.asarray(nearest_distance_m, np.float64) < theta_distance_m


def longest_run(is_key: Sequence[bool] | NDArray[np.bool_]) -> tuple[int, int]:
    """(start, length) of the longest run of key frames, the first of equals; (0, 0) where there is none."""
    padded = np.concatenate([[False], np.asarray(is_key, bool), [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if not len(starts):
        return 0, 0
    best = int(np.argmax(lengths))
    return int(starts[best]), int(lengths[best])
