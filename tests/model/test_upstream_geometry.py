"""Turning, shifting and projecting as the original does, for any ego motion and any calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sead_ray.model import encoder
from sead_ray.model.presets import PRESETS
from sead_ray.model.projection import pillar_points_m, project
from sead_ray.model.rotate import rotate_bev, rotation_source
from tests.model.small_vad import camera_ring
from tests.model.upstream_geometry import bev_shift, in_view, source_place

TIE = 1e-4  # of a cell
ANGLES_DEG = (0.0, 4.5, -4.5, 0.013, -11.7, 90.0, -90.0, 179.9, 355.5, -355.5, -360.0)


@pytest.mark.parametrize("preset", ["vad_tiny", "vad_base"])
@pytest.mark.parametrize("angle_deg", ANGLES_DEG)
def test_history_comes_from_the_nearest_cell(preset: str, angle_deg: float) -> None:
    """About (100, 100), which is VAD-Base's centre and VAD-Tiny's corner."""
    size = PRESETS[preset]
    center = (float(size.rotate_center[0]), float(size.rotate_center[1]))
    found = rotation_source(torch.tensor([angle_deg], dtype=torch.float64), size.bev_h, size.bev_w, center)[0].numpy()
    column, row = source_place(angle_deg, size.bev_h, size.bev_w, center)
    clear = (np.abs(column % 1 - 0.5) > TIE) & (np.abs(row % 1 - 0.5) > TIE)
    column, row = np.round(column).astype(int), np.round(row).astype(int)
    inside = (column >= 0) & (column < size.bev_w) & (row >= 0) & (row < size.bev_h)
    expected = np.where(inside, row * size.bev_w + column, -1)
    assert clear.mean() > 0.99
    assert np.array_equal(found[clear], expected[clear])


def test_samples_of_a_batch_turn_on_their_own() -> None:
    angles = torch.tensor(ANGLES_DEG, dtype=torch.float64)
    bev = torch.randn(len(angles), 600, 3, generator=torch.Generator().manual_seed(1))
    together = rotate_bev(bev, angles, 30, 20, (20.0, 30.0))
    for index in range(len(angles)):
        rows = slice(index, index + 1)
        assert torch.equal(together[rows], rotate_bev(bev[rows], angles[rows], 30, 20, (20.0, 30.0)))


def test_whole_turns_change_no_cell() -> None:
    """Upstream leaves them in where the heading passes through 0."""
    angles = torch.tensor([4.5, 4.5 - 360, 4.5 + 360], dtype=torch.float64)
    sources = rotation_source(angles, 100, 100, (100.0, 100.0))
    assert torch.equal(sources[0], sources[1])
    assert torch.equal(sources[0], sources[2])


@pytest.mark.parametrize("seed", range(5))
def test_shift_is_upstreams(seed: int) -> None:
    rng = np.random.default_rng(seed)
    can_bus = np.zeros((4, 18))
    can_bus[:, :2] = rng.normal(0, 5, (4, 2))
    can_bus[0, :2] = 0
    can_bus[:, 16] = rng.uniform(-2 * np.pi, 2 * np.pi, 4)
    size = PRESETS["vad_tiny"]
    cell_m = (size.extent_m[0] / size.bev_w, size.extent_m[1] / size.bev_h)
    expected = [bev_shift(row, cell_m, (size.bev_w, size.bev_h)) for row in can_bus]
    for dtype in (torch.float64, torch.float32):
        found = encoder.bev_shift(torch.from_numpy(can_bus).to(dtype), size.extent_m)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-6)


def test_both_references_are_shifted_under_the_quirk_alone() -> None:
    """`shift_ref_2d` and `ref_2d` are one tensor upstream."""
    can_bus = torch.zeros(2, 18, dtype=torch.float64)
    can_bus[1, :2] = torch.tensor([3.0, -2.0])
    for preset, quirk in (("vad_tiny", True), ("vad_nano", False)):
        size = PRESETS[preset]
        with torch.device("meta"):
            module = encoder.BEVEncoder(size)
        reference = module._reference(can_bus)
        still, moved = reference[0], reference[1]
        assert torch.equal(still[0], still[1])
        assert not torch.equal(moved[0], still[0])
        assert torch.equal(moved[1], moved[0] if quirk else still[1])


@pytest.mark.parametrize("seed", range(3))
def test_cameras_see_the_same_points(seed: int) -> None:
    """Point for point: one more camera on a cell would change its mean visibly."""
    size = PRESETS["vad_tiny"]
    lidar2img = camera_ring(seed)
    points = pillar_points_m(size.pc_range, size.bev_h, size.bev_w, size.pillar_points, lidar2img)
    _, seen = project(points, lidar2img[None], (64, 96))
    assert torch.equal(seen[0], in_view(points, lidar2img, (64, 96)))
