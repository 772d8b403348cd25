"""Motion forecasting as VAD reports it (after ViP3D): minADE, minFDE, miss rate and EPA of cars and pedestrians.

Confident boxes are matched to annotated agents one to one by their centres, whatever their classes; then each side
counts under its own group. Cars, trucks, buses and trailers count as "car". Nothing is written into the inputs
(upstream relabels the ground truth in place).

Shape legend: n boxes, g annotated agents, R modes, T = 6 future steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.records import AGENT_CLASSES
from sead_ray.targets import FrameTargets

MIN_SCORE = 0.6  # VAD: score_threshold of its motion metric
MATCH_M = 2.0  # between centres; also the final displacement beyond which a match is a miss
FALSE_POSITIVE_WEIGHT = 0.5  # of EPA (ViP3D)
NO_MATCH = 1e6

GROUPS = {"car": ("car", "truck", "bus", "trailer"), "pedestrian": ("pedestrian",)}
# Cycles are matched, so that none of their boxes takes a car's place, but belong to no group.
_MOVING = (*GROUPS["car"], *GROUPS["pedestrian"], "motorcycle", "bicycle")
_MOVING_LABELS = [AGENT_CLASSES.index(name) for name in _MOVING]


@dataclass(frozen=True)
class MotionCounts:
    """Sums of one group over one frame or many; `+` adds them up.

    Attributes:
        n_agents: annotated agents whose future is known to its end.
        n_false_positives: confident boxes without a match.
        n_ade, sum_ade_m: matches with at least one known step, and their smallest average displacements.
        n_fde, sum_fde_m: matches whose future is known to its end, and their smallest final displacements.
        n_hits, n_misses: of these, those up to 2 m and those beyond.
    """

    n_agents: int = 0
    n_false_positives: int = 0
    n_ade: int = 0
    n_fde: int = 0
    n_hits: int = 0
    n_misses: int = 0
    sum_ade_m: float = 0.0
    sum_fde_m: float = 0.0

    def __add__(self, other: MotionCounts) -> MotionCounts:
        return MotionCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def motion_counts(prediction: FramePrediction, target: FrameTargets) -> dict[str, MotionCounts]:
    """The counts of one frame, by group.

    Args:
        target: agents cut to VAD's range, with lidar points (`build_targets(..., points="lidar")`).
    """
    confident = prediction.scores > np.float32(MIN_SCORE)
    boxes, labels = prediction.boxes[confident], prediction.labels[confident]
    match = match_agents(boxes, labels, target.boxes, target.labels)
    unmatched = np.setdiff1d(np.arange(len(boxes)), match)
    counts = {}
    for group, names in GROUPS.items():
        members = [AGENT_CLASSES.index(name) for name in names]
        own = np.isin(target.labels, members)
        total = MotionCounts(
            n_agents=int((own & (target.agent_future_masks == 1).all(axis=1)).sum()),
            n_false_positives=int(np.isin(labels[unmatched], members).sum()),
        )
        for agent in np.flatnonzero(own & (match >= 0)):
            box = match[agent]
            future = _positions(boxes[box, :2], prediction.offsets_m[confident][box])
            total += _displacements(future, target, int(agent))
        counts[group] = total
    return counts


def match_agents(
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    agent_boxes: NDArray[np.float32],
    agent_labels: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(g,) the box of each agent, -1 for none: the assignment with the smallest sum of distances, pairs beyond 2 m
    or with a thing that never moves excluded."""
    distance = np.linalg.norm(boxes[:, None, :2] - agent_boxes[None, :, :2], axis=-1)
    allowed = np.isin(labels, _MOVING_LABELS)[:, None] & np.isin(agent_labels, _MOVING_LABELS)[None]
    distance = np.where(allowed & (distance <= MATCH_M), distance, NO_MATCH)
    match = np.full(len(agent_boxes), -1, np.int64)
    for box, agent in zip(*linear_sum_assignment(distance), strict=True):
        if distance[box, agent] <= MATCH_M:
            match[agent] = box
    return match


def _displacements(futures_RT2: NDArray[np.float32], target: FrameTargets, agent: int) -> MotionCounts:
    steps = int((target.agent_future_masks[agent] == 1).sum())
    if steps == 0:
        return MotionCounts()
    driven = _positions(target.boxes[agent, :2], target.agent_futures[agent])
    error_RT = np.linalg.norm(driven[None, :steps] - futures_RT2[:, :steps], axis=-1)
    ade_m = float((error_RT.sum(axis=-1) / steps).min())
    if steps < len(driven):
        return MotionCounts(n_ade=1, sum_ade_m=ade_m)
    fde_m = float(error_RT[:, -1].min())
    hit = fde_m <= MATCH_M
    return MotionCounts(n_ade=1, sum_ade_m=ade_m, n_fde=1, sum_fde_m=fde_m, n_hits=int(hit), n_misses=int(not hit))


def _positions(center_m: NDArray[np.float32], offsets_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., T, 2) positions of per-step offsets from a centre; summed in float64 and rounded, as torch does."""
    return np.cumsum(offsets_m, axis=-2, dtype=np.float64).astype(np.float32) + center_m.astype(np.float32)


def summarise_motion(frames: Sequence[dict[str, MotionCounts]]) -> dict[str, dict[str, Any]]:
    """{group: {"minADE_m", "minFDE_m", "miss_rate", "EPA", and the counts they rest on}}; None over nothing.

    EPA = (hits - 0.5 false positives) / agents; it falls below 0 where false positives abound.
    """
    report = {}
    for group in GROUPS:
        total = sum((frame[group] for frame in frames), MotionCounts())
        gained = total.n_hits - FALSE_POSITIVE_WEIGHT * total.n_false_positives
        report[group] = {
            "minADE_m": _ratio(total.sum_ade_m, total.n_ade),
            "minFDE_m": _ratio(total.sum_fde_m, total.n_fde),
            "miss_rate": _ratio(total.n_misses, total.n_fde),
            "EPA": _ratio(gained, total.n_agents),
            "n_agents": total.n_agents,
            "n_matched": total.n_ade,
            "n_hits": total.n_hits,
            "n_false_positives": total.n_false_positives,
        }
    return report


def _ratio(sum_: float, count: int) -> float | None:
    return sum_ / count if count else None
