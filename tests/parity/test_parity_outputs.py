"""Every output of every frame, within ten times upstream's own float noise."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from sead_ray.model.rotate import rotation_source
from sead_ray.nuscenes.sequence import can_bus_deltas
from tests.model.upstream_geometry import source_place
from tests.parity.archive import ARCHIVES, SIZE, Archive
from tests.parity.frame_run import ANGLE_DEG, quantity, reach_margins
from tests.parity.near_ties import TIE
from tests.parity.runs import allowed, frame_count, frames, vad

FILE = "outputs.npz"
CELL_TIE = 1e-4  # of a cell: how near to the middle between two source cells rounding may take either
COUNTS = "motion_map_key_padding_mask_count"

by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


def outputs(pattern: str) -> pytest.MarkDecorator:
    """A case for every name of the outputs that matches."""
    cases = [
        pytest.param(archive, name, id=f"{archive.label}-{name}")
        for archive in ARCHIVES
        for name in archive.names(FILE)
        if re.fullmatch(pattern, name)
    ]
    return pytest.mark.parametrize(("archive", "name"), cases)


COMPARED = rf"frame\d+(alone)?_(?!{COUNTS}$|margins$).+"
MARGINS = r"frame\d+_margins"
KEY_COUNTS = rf"frame\d+_{COUNTS}"
ROTATIONS = r"rotate_source_frame\d+"


@by_archive
def test_no_output_is_left_out(archive: Archive) -> None:
    names = archive.names(FILE)
    assert names
    assert [name for name in names if not re.fullmatch(f"{COMPARED}|{MARGINS}|{KEY_COUNTS}|{ROTATIONS}", name)] == []
    indices = range(frame_count(archive))
    assert all(f"frame{index}_bev_embed_every16" in names for index in indices)
    assert [name for name in names if name.startswith("rotate")] == [f"rotate_source_frame{i}" for i in indices if i]
    noisy = {name for name in archive.noise if not name.startswith("_")}
    assert noisy <= set(names), "noise.json names outputs that outputs.npz does not hold"


@outputs(COMPARED)
def test_output_is_upstreams(archive: Archive, name: str) -> None:
    frame, base = name.split("_", 1)
    index, expected, shape = archive.sampled(FILE, name)
    value = quantity(base, frames(archive)[frame], vad(archive))
    assert [n for n in value.shape if n != 1] == [n for n in shape if n != 1], "shapes differ"
    difference = np.abs(value.detach().reshape(-1).numpy()[index] - expected)
    worst = int(difference.argmax())
    place = np.unravel_index(index[worst], shape)
    limit = allowed(archive, name)
    assert difference[worst] <= limit, (
        f"{name}{[int(i) for i in place]} is off by {difference[worst]:.2e} > {limit:.2e}"
    )


@outputs(MARGINS)
def test_margins_are_upstreams(archive: Archive, name: str) -> None:
    """Each margin is one score's or one point's distance to a limit: the noise of those outputs is its own."""
    frame, base = name.split("_", 1)
    value = quantity(base, frames(archive)[frame], vad(archive)).numpy()
    sources = (name, f"{frame}_map_all_cls_scores", f"{frame}_map_all_pts_preds")
    limit = max(allowed(archive, source) for source in sources)
    np.testing.assert_allclose(value, archive.array(FILE, name), rtol=0, atol=limit)


@outputs(KEY_COUNTS)
def test_agents_attend_to_as_many_map_instances_as_upstreams(archive: Archive, name: str) -> None:
    """An agent with a map instance within 1e-4 of the limit may differ in that one (the original's README)."""
    frame, base = name.split("_", 1)
    run, model = frames(archive)[frame], vad(archive)
    difference = (quantity(base, run, model) - torch.from_numpy(archive.array(FILE, name).astype(np.int64))).abs()
    tied = (reach_margins(run, model).amin(-1) < TIE).repeat_interleave(model.size.modes)
    assert difference.shape == tied.shape
    assert int(difference.max()) <= 1
    assert not bool((difference[~tied] > 0).any()), (difference * ~tied).nonzero().flatten().tolist()


@outputs(ROTATIONS)
def test_history_is_turned_as_upstream_turns_it(archive: Archive, name: str) -> None:
    """Cells whose source lies midway between two cells may take either (the original's README)."""
    expected = torch.from_numpy(archive.array(FILE, name)).flatten()
    angle_deg = float(archive.inputs["can_bus"][int(name.rsplit("frame", 1)[1]), ANGLE_DEG])
    center = (float(SIZE.rotate_center[0]), float(SIZE.rotate_center[1]))
    found = rotation_source(torch.tensor([angle_deg], dtype=torch.float64), SIZE.bev_h, SIZE.bev_w, center)[0]
    differing = (found != expected).nonzero().flatten()
    column, row = source_place(angle_deg, SIZE.bev_h, SIZE.bev_w, center)
    for cell in differing.tolist():
        u, v = float(column[cell]), float(row[cell])
        to_middle = min(abs(u % 1 - 0.5), abs(v % 1 - 0.5))
        assert to_middle < CELL_TIE, f"cell {cell} comes from {int(found[cell])}, upstream's from {int(expected[cell])}"


@by_archive
def test_differences_of_the_can_vector_are_upstreams(archive: Archive) -> None:
    """But for whole turns: upstream leaves +-360 degrees where the heading passes through 0."""

    class Row:
        def __init__(self, can_bus: np.ndarray) -> None:
            self.can_bus = can_bus

    absolute, expected = archive.inputs["can_bus_abs"], archive.inputs["can_bus"]
    found = can_bus_deltas([Row(row) for row in absolute])  # type: ignore[arg-type]
    turns = (found - expected)[:, ANGLE_DEG] / 360
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)
    np.testing.assert_allclose(np.delete(found, ANGLE_DEG, 1), np.delete(expected, ANGLE_DEG, 1), rtol=0, atol=1e-9)
