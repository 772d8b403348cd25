"""VAD's boxes and mmdet3d's `LiDARInstance3DBoxes`, which differ in all three conventions.

    VAD (mmdet3d before 1.0)   x, y, z of the gravity centre; w, l, h; yaw = -heading - pi/2; vx, vy
    mmdet3d since 1.0          x, y, z of the bottom centre;  l, w, h; yaw = heading; vx, vy

Both in the lidar frame (x right, y forward for nuScenes), heading counter-clockwise from +x; velocities are the same.
"""

from __future__ import annotations

import math

import torch
from mmdet3d.structures import LiDARInstance3DBoxes
from torch import Tensor


def lidar_boxes(boxes: Tensor) -> LiDARInstance3DBoxes:
    """(n, 9) boxes of VAD as mmdet3d's; yaw in [-pi, pi)."""
    x, y, z, width, length, height, yaw, vx, vy = boxes.reshape(-1, 9).unbind(-1)
    values = torch.stack([x, y, z, length, width, height, _turned(yaw), vx, vy], -1)
    return LiDARInstance3DBoxes(values, box_dim=9, origin=(0.5, 0.5, 0.5))


def vad_boxes(boxes: LiDARInstance3DBoxes) -> Tensor:
    """mmdet3d's boxes as (n, 9) boxes of VAD; yaw in [-pi, pi). Boxes without velocity, or with a NaN one, stand."""
    length, width, height = boxes.dims.unbind(-1)
    size = torch.stack([width, length, height], -1)
    velocity = (
        boxes.tensor[:, 7:9].nan_to_num() if boxes.tensor.shape[-1] >= 9 else boxes.tensor.new_zeros(len(boxes), 2)
    )
    return torch.cat([boxes.gravity_center, size, _turned(boxes.yaw).unsqueeze(-1), velocity], -1)


def _turned(yaw: Tensor) -> Tensor:
    """-yaw - pi/2, its own inverse (`geometry.vad_yaw_from_heading`, on the boxes' device), in [-pi, pi)."""
    return torch.remainder(-yaw + math.pi / 2, 2 * math.pi) - math.pi
