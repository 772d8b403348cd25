"""The planning metric as published: L2 to 1e-4, every flag and every cell of the grid identical."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sead_ray.evaluation.planning import CELL_M, CELLS, EXTENT_M, HORIZONS_S, box_collisions, path_from_offsets
from sead_ray.targets import MAP_ORDERS, FrameTargets
from tests.parity.archive import ARCHIVES, Archive, Array
from tests.parity.planning_cases import Case, planning_case, published

FILE = "planning_metric.npz"
L2_TOLERANCE_M = 1e-4
PUBLISHED = [f"plan_{kind}_{second}s" for kind in ("L2", "obj_col", "obj_box_col") for second in HORIZONS_S]
INPUTS = ["boxes", "attr", "count", "ego_gt", "ego_pred", "fut_valid_flag"]
STEPS = ["step_obj_col", "step_obj_box_col", "gt_box_col", "occupancy_packed"]

by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


@cache
def cases(archive: Archive) -> list[Case]:
    given = {name: archive.array(FILE, name) for name in INPUTS}
    return [_case({name: value[index] for name, value in given.items()}) for index in range(len(given["count"]))]


def _case(given: dict[str, Array]) -> Case:
    count = int(given["count"])
    target = FrameTargets(
        boxes=given["boxes"][:count],
        labels=np.zeros(count, np.int64),
        attributes=given["attr"][:count],
        map_points=np.zeros((0, MAP_ORDERS, 20, 2), np.float32),
        map_labels=np.zeros(0, np.int64),
        ego_future=given["ego_gt"],
        ego_future_mask=np.ones(len(given["ego_gt"]), np.float32),
        command=0,
        future_valid=bool(given["fut_valid_flag"]),
    )
    return planning_case(given["ego_pred"], target)


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
