"""What the original does to the previous BEV and to the pillars, spelled out sample by sample."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def source_place(angle_deg: float, height: int, width: int, center: tuple[float, float]) -> tuple[Array, Array]:
    """Column and row (in cells, fractional) that each cell of the turned BEV is taken from, in float64."""
    angle = np.deg2rad(angle_deg)
    row, column = np.divmod(np.arange(height * width), width)
    x, y = column + 0.5 - center[0], row + 0.5 - center[1]
    source_x, source_y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    return source_x + center[0] - 0.5, source_y + center[1] - 0.5


def bev_shift(can_bus: Array, cell_m: tuple[float, float], cells: tuple[int, int]) -> tuple[float, float]:
    """(x, y) shift of the reference points: the translation's length, seen from the heading, in BEV sides."""
    length = math.hypot(can_bus[0], can_bus[1])
    heading_deg = can_bus[16] / math.pi * 180
    direction_deg = math.atan2(can_bus[1], can_bus[0]) / math.pi * 180
    angle = (heading_deg - direction_deg) / 180 * math.pi
    return length * math.sin(angle) / cell_m[0] / cells[0], length * math.cos(angle) / cell_m[1] / cells[1]


def in_view(points_m: torch.Tensor, lidar2img: torch.Tensor, image_hw: tuple[int, int]) -> torch.Tensor:
    """(K, n) of one sample: a homogeneous product for each point, depth held above 1e-5, strictly inside the image."""
    ones = torch.ones(len(points_m), 1)
    homogeneous = torch.cat([points_m, ones], -1)[None, :, :, None]  # (1, n, 4, 1)
    pixels = torch.matmul(lidar2img[:, None].expand(-1, len(points_m), -1, -1), homogeneous).squeeze(-1)
    depth = pixels[..., 2]
    u = pixels[..., 0] / depth.clamp(min=1e-5) / image_hw[1]
    v = pixels[..., 1] / depth.clamp(min=1e-5) / image_hw[0]
    return (depth > 1e-5) & (u > 0) & (u < 1) & (v > 0) & (v < 1)
