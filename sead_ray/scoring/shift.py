"""Feature shift: exact earth mover's distance between the queries of consecutive frames (Eq. 2, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sead_ray.config import ScoreConfig
from sead_ray.scoring.features import FrameFeatures


@dataclass(frozen=True)
class ClipShifts:
    """Feature shift of one clip.

    Attributes:
        transitions: (n,) frame index t of each taken transition t -> t + 1.
        agents, map_instances: (n,) its shifts FS_a and FS_m, warm-up included.
        n_transitions: how many of them are in the sum (warm-up left out).
        total: Eq. 3; mean: total / n_transitions, 0 where there is none.
    """

    transitions: NDArray[np.int64]
    agents: NDArray[np.float64]
    map_instances: NDArray[np.float64]
    n_transitions: int
    total: float
    mean: float


def earth_movers_distance(source: ArrayLike, target: ArrayLike) -> float:
    """Exact EMD between (n, k) and (m, k) points with uniform weights and Euclidean cost (Eq. 2).

    Equal sizes need no general solver: an optimal plan between uniform weights is a permutation (Birkhoff), and in
    one dimension the sorted one. Other sizes go to POT's network simplex.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"EMD needs two non-empty sets of equal dimension, got {a.shape} and {b.shape}")
    if len(a) == len(b) and a.shape[1] == 1:
        return float(np.abs(np.sort(a[:, 0]) - np.sort(b[:, 0])).mean())
    cost = cdist(a, b)
    if len(a) == len(b):
        rows, columns = linear_sum_assignment(cost)
        return float(cost[rows, columns].mean())
    import ot  # here, since POT looks for every array library when it is imported

    weights_a, weights_b = np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b))
    return float(np.asarray(ot.emd2(weights_a, weights_b, cost, numItermax=10_000_000)))


def nominal_transitions(timestamps_us: Sequence[int], config: ScoreConfig) -> NDArray[np.int64]:
    """Indices t of the transitions t -> t + 1 of the nominal key-frame interval.

    A longer one is a gap, across which a shift would mean something else; a much shorter one is not a key-frame
    transition at all. Both bounds are `max_gap_factor` away from `nominal_interval_s`.
    """
    intervals_s = np.diff(np.asarray(timestamps_us, np.int64)) * 1e-6
    shortest_s = config.nominal_interval_s / config.max_gap_factor
    longest_s = config.nominal_interval_s * config.max_gap_factor
    return np.flatnonzero((intervals_s >= shortest_s) & (intervals_s <= longest_s))


def clip_shifts(features: Sequence[FrameFeatures], timestamps_us: Sequence[int], config: ScoreConfig) -> ClipShifts:
    """Shifts of a clip's agents and map, and their sum (Eq. 3). The first transition is that of the second frame.

    The first `warmup_frames` transitions of the clip are reported, and left out of the sum.
    """
    transitions = nominal_transitions(timestamps_us, config)
    agents = np.array([earth_movers_distance(features[t + 1].agents, features[t].agents) for t in transitions])
    maps = np.array(
        [earth_movers_distance(features[t + 1].map_instances, features[t].map_instances) for t in transitions]
    )
    counted = transitions >= config.warmup_frames
    n_counted = int(counted.sum())
    total = float((agents + maps)[counted].sum())
    return ClipShifts(transitions, agents, maps, n_counted, total, total / n_counted if n_counted else 0.0)
