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
        agents, map_instances: (n,) its shifts FS_a and FS_m, warm-up included; bev: that of the whole BEV, or None.
        n_transitions: how many of them are in the sums (warm-up left out).
        agents_total, map_total, bev_total: sums over those.
        total: Eq. 3, of agents and map; mean: total / n_transitions, 0 where there is none.
    """

    transitions: NDArray[np.int64]
    agents: NDArray[np.float64]
    map_instances: NDArray[np.float64]
    bev: NDArray[np.float64] | None
    n_transitions: int
    agents_total: float
    map_total: float
    bev_total: float | None
    total: float
    mean: float


def earth_movers_distance(source: ArrayLike, target: ArrayLike) -> float:
    """Exact EMD between (n, k) and (m, k) points with uniform weights and Euclidean cost (Eq. 2).

    One dimension has a closed form, whatever n and m; any other goes to POT's network simplex.
    """
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    _check_sets(a, b)
    if a.shape[1] == 1:
        return _line_distance(a[:, 0], b[:, 0])
    import ot  # here, since POT looks for every array library when it is imported

    weights_a, weights_b = np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b))
    return float(np.asarray(ot.emd2(weights_a, weights_b, cdist(a, b), numItermax=10_000_000)))


def earth_movers_distances(sources: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """(F,) EMDs of F pairs at once: (F, n, k) against (F, m, k); the numbers of `earth_movers_distance` to 1e-6.

    Between equally many points of uniform weight an optimal plan is a permutation (Birkhoff), so that an assignment
    takes the place of the general solver; in one dimension the sorted order is one, for all frames in one step.
    """
    a, b = np.asarray(sources, np.float64), np.asarray(targets, np.float64)
    if a.ndim != 3 or b.ndim != 3 or len(a) != len(b):
        raise ValueError(f"EMDs of many frames need (F, n, k) and (F, m, k), got {a.shape} and {b.shape}")
    if not len(a):
        return np.zeros(0)
    _check_sets(a[0], b[0])
    if a.shape[1] != b.shape[1]:
        return np.array([earth_movers_distance(x, y) for x, y in zip(a, b)])
    if a.shape[2] == 1:
        return np.abs(np.sort(a[:, :, 0], axis=1) - np.sort(b[:, :, 0], axis=1)).mean(axis=1)
    return np.array([_assigned_distance(x, y) for x, y in zip(a, b)])


def _check_sets(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"EMD needs two non-empty sets of equal dimension, got {a.shape} and {b.shape}")


def _line_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Area between the two quantile functions, which are constant between the multiples of 1/n and 1/m."""
    a, b = np.sort(a), np.sort(b)
    # in units of 1/(n m), where every step is a whole number
    steps = np.union1d(np.arange(len(a) + 1) * len(b), np.arange(len(b) + 1) * len(a))
    gaps = np.abs(a[steps[:-1] // len(b)] - b[steps[:-1] // len(a)])
    return float((gaps * np.diff(steps)).sum() / (len(a) * len(b)))


def _assigned_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    cost = cdist(a, b)
    rows, columns = linear_sum_assignment(cost)
    return float(cost[rows, columns].mean())


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
    agents = _shifts([frame.agents for frame in features], transitions)
    maps = _shifts([frame.map_instances for frame in features], transitions)
    has_bev = all(len(frame.bev) for frame in features)
    bev = _shifts([frame.bev for frame in features], transitions) if has_bev else None
    return _summed(transitions, agents, maps, bev, config)


def extended_shifts(
    known: ClipShifts | None, features: Sequence[FrameFeatures], timestamps_us: Sequence[int], config: ScoreConfig
) -> ClipShifts:
    """`clip_shifts(features, …)` where `known` is that of all frames but the last: only the last transition is new."""
    if known is None or len(features) < 2:
        return clip_shifts(features, timestamps_us, config)
    last = clip_shifts(features[-2:], timestamps_us[-2:], config)
    has_bev = known.bev is not None and last.bev is not None
    return _summed(
        np.concatenate([known.transitions, last.transitions + len(features) - 2]),
        np.concatenate([known.agents, last.agents]),
        np.concatenate([known.map_instances, last.map_instances]),
        np.concatenate([known.bev, last.bev]) if has_bev else None,
        config,
    )


def _summed(
    transitions: NDArray[np.int64],
    agents: NDArray[np.float64],
    maps: NDArray[np.float64],
    bev: NDArray[np.float64] | None,
    config: ScoreConfig,
) -> ClipShifts:
    counted = transitions >= config.warmup_frames
    n_counted = int(counted.sum())
    total = float((agents + maps)[counted].sum())
    return ClipShifts(
        transitions=transitions,
        agents=agents,
        map_instances=maps,
        bev=bev,
        n_transitions=n_counted,
        agents_total=float(agents[counted].sum()),
        map_total=float(maps[counted].sum()),
        bev_total=None if bev is None else float(bev[counted].sum()),
        total=total,
        mean=total / n_counted if n_counted else 0.0,
    )


def _shifts(queries: Sequence[NDArray[np.float32]], transitions: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) Eq. 2 of each transition t -> t + 1."""
    if not len(transitions):
        return np.zeros(0)
    stacked = np.stack(queries)
    return earth_movers_distances(stacked[transitions + 1], stacked[transitions])
