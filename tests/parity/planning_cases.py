"""One frame of the planning metric, with what lies behind its published numbers."""

from __future__ import annotations

from dataclasses import dataclass

from sead_ray.evaluation.planning import (
    STEPS_PER_S,
    FramePlanning,
    agent_occupancy,
    box_collisions,
    frame_planning,
    path_from_offsets,
    point_collisions,
)
from sead_ray.targets import FrameTargets
from tests.parity.archive import Array


@dataclass(frozen=True)
class Case:
    """occupancy: (T, cells, cells); driven_collides, point_collides: (T,)."""

    record: FramePlanning
    occupancy: Array
    driven_collides: Array
    point_collides: Array


def planning_case(plan_offsets_m: Array, target: FrameTargets) -> Case:
    occupancy = agent_occupancy(target.boxes, target.attributes)
    driven = box_collisions(path_from_offsets(target.ego_future), occupancy)
    points = point_collisions(path_from_offsets(plan_offsets_m), occupancy) & ~driven
    return Case(frame_planning(plan_offsets_m, target), occupancy, driven, points)


def published(case: Case, name: str) -> float:
    """Upstream's `plan_<kind>_<n>s`; 0 for a frame without a whole future."""
    kind, horizon = name[len("plan_") : -len("_1s")], int(name[-2])
    if kind == "L2":
        return case.record.l2_m[horizon - 1]
    if kind == "obj_box_col":
        return case.record.obj_box_col[horizon - 1]
    return float(case.point_collides[: STEPS_PER_S * horizon].mean()) if case.record.valid else 0.0
