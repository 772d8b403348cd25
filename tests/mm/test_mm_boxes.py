"""Box conventions: the same box in VAD's and in mmdet3d's terms, checked by its corners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmdet3d.structures import LiDARInstance3DBoxes

from sead_ray.geometry import box_corners_bev, heading_from_vad_yaw, vad_yaw_from_heading, wrap_angle
from sead_ray.mm import lidar_boxes, vad_boxes


def random_boxes(seed: int, count: int = 50) -> torch.Tensor:
    boxes = torch.rand(count, 9, generator=torch.Generator().manual_seed(seed)) * 20 - 10
    boxes[:, 3:6] = boxes[:, 3:6].abs() + 0.1
    boxes[:, 6] = torch.linspace(-3.14, 3.14, count)
    return boxes


def test_a_car_that_drives_forward() -> None:
    """Heading +y in the lidar frame: VAD's yaw is -pi, mmdet3d's pi/2; 4 m long, 2 m wide, 1.5 m high."""
    (row,) = lidar_boxes(torch.tensor([[1.0, 10.0, 0.5, 2.0, 4.0, 1.5, -np.pi, 0.1, 5.0]])).tensor
    torch.testing.assert_close(row, torch.tensor([1.0, 10.0, -0.25, 4.0, 2.0, 1.5, np.pi / 2, 0.1, 5.0]))


def test_corners_are_those_of_the_heading() -> None:
    boxes = random_boxes(0)
    converted = lidar_boxes(boxes)
    for row, corners in zip(boxes.double().numpy(), converted.corners.double().numpy(), strict=True):
        heading = float(heading_from_vad_yaw(row[6]))
        expected = box_corners_bev(row[:2], length=row[4], width=row[3], heading_rad=heading)
        ground = corners[np.argsort(corners[:, 2])[:4], :2]
        order = [np.lexsort(np.round(points, 3).T) for points in (ground, expected)]
        np.testing.assert_allclose(ground[order[0]], expected[order[1]], atol=1e-4)
        np.testing.assert_allclose(
            [corners[:, 2].min(), corners[:, 2].max()], row[2] + row[5] * np.array([-0.5, 0.5]), atol=1e-5
        )
    torch.testing.assert_close(converted.gravity_center, boxes[:, :3])
    torch.testing.assert_close(converted.tensor[:, 7:9], boxes[:, 7:9])


@pytest.mark.parametrize("seed", range(3))
def test_round_trips(seed: int) -> None:
    boxes = random_boxes(seed)
    torch.testing.assert_close(vad_boxes(lidar_boxes(boxes)), boxes, rtol=1e-6, atol=2e-6)
    own = LiDARInstance3DBoxes(random_boxes(seed + 10), box_dim=9)
    torch.testing.assert_close(lidar_boxes(vad_boxes(own)).tensor, own.tensor, rtol=1e-6, atol=2e-6)


def test_the_yaw_is_geometrys_and_in_range() -> None:
    yaw = torch.linspace(-20, 20, 401)
    boxes = torch.ones(401, 9)
    boxes[:, 6] = yaw
    turned = lidar_boxes(boxes).yaw.double().numpy()
    np.testing.assert_allclose(wrap_angle(turned - vad_yaw_from_heading(yaw.double().numpy())), 0, atol=5e-6)
    assert turned.min() >= -np.pi - 1e-6
    assert turned.max() < np.pi + 1e-6


def test_no_boxes_and_boxes_without_velocity() -> None:
    assert lidar_boxes(torch.zeros(0, 9)).tensor.shape == (0, 9)
    assert vad_boxes(LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9)).shape == (0, 9)
    still = vad_boxes(LiDARInstance3DBoxes(torch.tensor([[0.0, 0, 0, 4, 2, 1, 0]])))
    torch.testing.assert_close(still, torch.tensor([[0, 0, 0.5, 2, 4, 1, -np.pi / 2, 0, 0]], dtype=torch.float32))
    unknown = LiDARInstance3DBoxes(torch.tensor([[0.0, 0, 0, 4, 2, 1, 0, torch.nan, torch.nan]]), box_dim=9)
    assert not vad_boxes(unknown).isnan().any()
