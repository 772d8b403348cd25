"""The planning metric as published: L2 to 1e-4, every flag and every cell of the grid identical."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from sead_ray.evaluation.planning import (
    CELL_M,
    CELLS,
    EXTENT_M,
    HORIZONS_S,
    STEPS_PER_S,
    FramePlanning,
    agent_occupancy,
    box_collisions,
    frame_planning,
    path_from_offsets,
    point_collisions,
)
from sead_ray.targets import MAP_ORDERS, FrameTargets
from tests.parity.archive import ARCHIVES, Archive, Array

FILE = "planning_metric.npz"
L2_TOLERANCE_M = 1e-4
PUBLISHED = [f"plan_{kind}_{second}s" for kind in ("L2", "obj_col", "obj_box_col") for second in HORIZONS_S]
INPUTS = ["boxes", "attr", "count", "ego_gt", "ego_pred", "fut_valid_flag"]
STEPS = ["step_obj_col", "step_obj_box_col", "gt_box_col", "occupancy_packed"]

by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


@dataclass(frozen=True)
class Case:
    """One case of ours. occupancy: (T, CELLS, CELLS); the flags: (T,)."""

    record: FramePlanning
    occupancy: Array
    driven_collides: Array
    point_collides: Array


@cache
def cases(archive: Archive) -> list[Case]:
    given = {name: archive.array(FILE, name) for name in INPUTS}
    return [_case({name: value[index] for name, value in given.items()}) for index in range(len(given["count"]))]


def _case(given: dict[str, Array]) -> Case:
    count = int(given["count"])
    target = planning_target(given["boxes"][:count], given["attr"][:count], given["ego_gt"], given["fut_valid_flag"])
    occupancy = agent_occupancy(target.boxes, target.attributes)
    driven = box_collisions(path_from_offsets(target.ego_future), occupancy)
    points = point_collisions(path_from_offsets(given["ego_pred"]), occupancy) & ~driven
    return Case(frame_planning(given["ego_pred"], target), occupancy, driven, points)


def planning_target(boxes: Array, attributes: Array, ego_future: Array, valid: bool, command: int = 0) -> FrameTargets:
    """What the metric reads, without a map."""
    return FrameTargets(
        boxes=boxes,
        labels=np.zeros(len(boxes), np.int64),
        attributes=attributes,
        map_points=np.zeros((0, MAP_ORDERS, 20, 2), np.float32),
        map_labels=np.zeros(0, np.int64),
        ego_future=ego_future,
        ego_future_mask=np.ones(len(ego_future), np.float32),
        command=command,
        future_valid=bool(valid),
    )


def published(case: Case, name: str) -> float:
    """Upstream's `plan_<kind>_<n>s` of one case; 0 for one without a whole future."""
    _, kind, horizon = name.split("_", 1)[0], name[len("plan_") : -len("_1s")], int(name[-2])
    if kind == "L2":
        return case.record.l2_m[horizon - 1]
    if kind == "obj_box_col":
        return case.record.obj_box_col[horizon - 1]
    return float(case.point_collides[: STEPS_PER_S * horizon].mean()) if case.record.valid else 0.0


def flags(case: Case, name: str) -> Array:
    """Upstream's per-step array of one case."""
    if name == "occupancy_packed":
        return np.packbits(case.occupancy.astype(bool))
    if name == "gt_box_col":
        return case.driven_collides
    return case.point_collides if name == "step_obj_col" else np.asarray(case.record.step_collision)


def cases_that_differ(found: list[Array], expected: Array) -> list[int]:
    return [index for index, (a, b) in enumerate(zip(found, expected, strict=True)) if not np.array_equal(a, b)]


@by_archive
def test_no_number_is_left_out(archive: Archive) -> None:
    assert set(archive.names(FILE)) == {*INPUTS, *STEPS, *PUBLISHED, "bx", "dx"}
    assert archive.array(FILE, "dx").tolist() == [CELL_M, CELL_M]
    assert archive.array(FILE, "bx").tolist() == [-EXTENT_M + CELL_M / 2] * 2
    assert len(archive.array(FILE, "occupancy_packed")[0]) * 8 == len(archive.array(FILE, "gt_box_col")[0]) * CELLS**2


@pytest.mark.parametrize("name", PUBLISHED)
@by_archive
def test_published_number_of_every_case(archive: Archive, name: str) -> None:
    found = np.array([published(case, name) for case in cases(archive)])
    tolerance = L2_TOLERANCE_M if "L2" in name else 1e-6  # shares of steps are float32 in upstream's records
    np.testing.assert_allclose(found, archive.array(FILE, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["step_obj_col", "gt_box_col", "occupancy_packed"])
@by_archive
def test_steps_of_every_case(archive: Archive, name: str) -> None:
    found = [flags(case, name).astype(archive.array(FILE, name).dtype) for case in cases(archive)]
    assert cases_that_differ(found, archive.array(FILE, name)) == []


@by_archive
def test_box_collisions_of_every_step(archive: Archive) -> None:
    """Upstream flags the steps of cases without a whole future too; our record leaves them out, as its averages do."""
    predicted, excluded = archive.array(FILE, "ego_pred"), archive.array(FILE, "gt_box_col")
    found = [
        box_collisions(path_from_offsets(plan), case.occupancy) & ~case.driven_collides
        for plan, case in zip(predicted, cases(archive), strict=True)
    ]
    expected = archive.array(FILE, "step_obj_box_col").astype(bool)
    assert cases_that_differ(found, expected) == []
    assert not (expected & excluded.astype(bool)).any()
    recorded = [flags(case, "step_obj_box_col") for case in cases(archive)]
    valid = archive.array(FILE, "fut_valid_flag")[:, None]
    assert cases_that_differ(recorded, expected & valid) == []
