"""Rotation of the previous BEV into the heading of the current frame."""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_source(angle_deg: Tensor, height: int, width: int, center: tuple[float, float] | None) -> Tensor:
    """Which cell each cell is taken from, nearest neighbour, as torchvision's `rotate` does.

    Args:
        angle_deg: (B,), counter-clockwise as the grid is displayed with row 0 on top.
        center: x, y pixel that stays; None: the middle of the grid.

    Returns:
        (B, height * width) flat index of the source cell, -1 outside the grid.
    """
    angle = -torch.deg2rad(angle_deg.double())  # rows grow downwards: the source lies clockwise
    # The steps follow torchvision (matrix in double, grid in float32, in units of half the grid), so that cells
    # near a boundary round the same way.
    cos, sin = torch.cos(angle), torch.sin(angle)
    dx, dy = (0.0, 0.0) if center is None else (center[0] - width * 0.5, center[1] - height * 0.5)
    tx = (cos * -dx + sin * -dy + dx).float() / (0.5 * width)
    ty = (-sin * -dx + cos * -dy + dy).float() / (0.5 * height)
    device = angle_deg.device
    x = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width, device=device).view(1, 1, width)
    y = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height, device=device).view(1, height, 1)
    cos, sin = cos.float().view(-1, 1, 1), sin.float().view(-1, 1, 1)
    u = x * (cos / (0.5 * width)) + y * (sin / (0.5 * width)) + tx.view(-1, 1, 1)
    v = x * (-sin / (0.5 * height)) + y * (cos / (0.5 * height)) + ty.view(-1, 1, 1)
    column = torch.round(((u + 1) * width - 1) / 2).long()
    row = torch.round(((v + 1) * height - 1) / 2).long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return torch.where(inside, row * width + column, -1).flatten(1)


def rotate_bev(
    bev_BQC: Tensor, angle_deg: Tensor, height: int, width: int, center: tuple[float, float] | None
) -> Tensor:
    """A rotated copy of the BEV, zero where it has no source (VAD: `VAD_transformer`, which writes in place)."""
    source = rotation_source(angle_deg, height, width, center)
    moved = torch.take_along_dim(bev_BQC, source.clamp(min=0).unsqueeze(-1), dim=1)
    return moved * (source >= 0).unsqueeze(-1)
