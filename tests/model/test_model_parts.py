"""Deformable sampling, rotation and projection against slow or hand-made answers; the placeholder for mmcv's ops."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from sead_ray.model.backbone import install_ops_placeholder
from sead_ray.model.deformable import sample_deformable
from sead_ray.model.encoder import bev_shift
from sead_ray.model.projection import pillar_points_m, project, view_cameras
from sead_ray.model.rotate import rotate_bev, rotation_source
from tests.model.small_vad import camera_ring


def bilinear(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """(h, w, D) at x, y in 0..1; zero outside."""
    height, width, dims = image.shape
    u, v = x * width - 0.5, y * height - 0.5
    total = torch.zeros(dims)
    for row in (math.floor(v), math.floor(v) + 1):
        for column in (math.floor(u), math.floor(u) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(u - column)) * (1 - abs(v - row)) * image[row, column]
    return total


def test_sampling_equals_the_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes, batch, heads, dims, queries, points = [(4, 6), (2, 3)], 2, 2, 3, 5, 2
    value = torch.randn(batch, 30, heads, dims, generator=generator)
    locations = torch.rand(batch, queries, heads, 2, points, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(batch, queries, heads, 2, points, generator=generator)
    expected = torch.zeros(batch, queries, heads, dims)
    for n in range(batch):
        for q in range(queries):
            for a in range(heads):
                for level, (height, width) in enumerate(shapes):
                    start = 0 if level == 0 else 24
                    image = value[n, start : start + height * width, a].view(height, width, dims)
                    for p in range(points):
                        x, y = locations[n, q, a, level, p].tolist()
                        expected[n, q, a] += weights[n, q, a, level, p] * bilinear(image, x, y)
    got = sample_deformable(value, shapes, locations, weights)
    torch.testing.assert_close(got, expected.flatten(2), rtol=1e-5, atol=1e-5)


def test_quarter_turn_is_counter_clockwise_as_displayed() -> None:
    grid = torch.arange(9.0).view(1, 9, 1)
    turned = rotate_bev(grid, torch.tensor([90.0]), 3, 3, None).view(3, 3)
    assert turned.tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    half = rotate_bev(grid, torch.tensor([180.0]), 3, 3, (1.5, 1.5)).flatten()
    assert half.tolist() == list(range(8, -1, -1))


def test_rotation_about_the_corner_empties_the_grid() -> None:
    grid = torch.ones(2, 16, 3)
    moved = rotate_bev(grid, torch.tensor([0.0, 180.0]), 4, 4, (4.0, 4.0))
    assert torch.equal(moved[0], grid[0])
    assert not moved[1].any()
    assert rotation_source(torch.tensor([180.0]), 4, 4, (4.0, 4.0)).max() == -1


def test_left_turn_moves_what_was_ahead_to_the_right() -> None:
    # Row = y (forward), column = x (right): after a left turn of 90 degrees, ahead becomes right.
    grid = torch.zeros(1, 25, 1)
    grid[0, 4 * 5 + 2] = 1  # ahead
    moved = rotate_bev(grid, torch.tensor([90.0]), 5, 5, None)
    assert int(moved.flatten().argmax()) == 2 * 5 + 4


@pytest.mark.parametrize("heading_deg", [0.0, 37.0, -120.0])
def test_shift_is_the_translation_in_lidar_axes(heading_deg: float) -> None:
    heading = math.radians(heading_deg)
    ahead, left = 3.0, 1.0
    can_bus = torch.zeros(1, 18)
    can_bus[0, 0] = ahead * math.cos(heading) - left * math.sin(heading)
    can_bus[0, 1] = ahead * math.sin(heading) + left * math.cos(heading)
    can_bus[0, 16] = heading
    torch.testing.assert_close(bev_shift(can_bus, (30.0, 60.0)), torch.tensor([[-left / 30, ahead / 60]]))


def test_cells_are_row_major_from_the_rear_left() -> None:
    points = pillar_points_m((-15, -30, -2, 15, 30, 2), 4, 3, 4, torch.zeros(1)).view(4, 3, 4, 3)
    torch.testing.assert_close(points[0, 0, :, 2], torch.tensor([-1.5, -0.5, 0.5, 1.5]))
    torch.testing.assert_close(points[0, 0, 0, :2], torch.tensor([-10.0, -22.5]))
    torch.testing.assert_close(points[3, 2, 0, :2], torch.tensor([10.0, 22.5]))


def test_every_cell_knows_the_cameras_that_see_it() -> None:
    """Every (camera, cell) that see each other are paired once, with that cell's points; shares sum to 1."""
    lidar2img = torch.stack([camera_ring(1), camera_ring(2)])
    points_m = pillar_points_m((-15, -30, -2, 15, 30, 2), 8, 6, 4, lidar2img)
    view = view_cameras(points_m, 4, lidar2img, (64, 96))
    uv, seen = project(points_m, lidar2img, (64, 96))
    mask = seen.view(2, 6, 48, 4).any(-1)
    expected = {(b * 6 + k, b * 48 + q) for b, k, q in mask.nonzero().tolist()}
    found = set()
    for sample, cell, place in (view.share > 0).nonzero().tolist():
        image = int(view.image[sample, cell, place])
        torch.testing.assert_close(view.pixels[sample, cell, place], uv.view(12, 48, 4, 2)[image, cell])
        assert (image, sample * 48 + cell) not in found
        found.add((image, sample * 48 + cell))
    assert expected
    assert found == expected
    torch.testing.assert_close(view.share.sum(-1), mask.any(1).float())
    assert view.share.shape[-1] == mask.sum(1).max()


def test_a_point_straight_ahead_is_in_the_front_camera_only() -> None:
    _, seen = project(torch.tensor([[0.0, 10.0, 0.0]]), camera_ring(1)[None], (64, 96))
    assert seen[0, :, 0].tolist() == [True, False, False, False, False, False]


def test_placeholder_functions_raise_when_called() -> None:
    install_ops_placeholder()
    ops = sys.modules.get("mmcv._ext")
    if ops is None or getattr(ops, "__file__", None):
        pytest.skip("mmcv's compiled operations are installed")
    with pytest.raises(RuntimeError, match="'nms'"):
        ops.nms()
    with pytest.raises(AttributeError):
        ops.__path__  # noqa: B018


def test_importing_the_model_imports_no_mm_package() -> None:
    code = "import sys, sead_ray.model.weights; print({'mmcv', 'mmdet', 'mmdet3d', 'mmengine'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert done.stderr == ""
