"""Multi-scale deformable attention's sampling (Deformable DETR, Eq. 3), by `grid_sample`.

Shape legend: N batch entries, S values (all levels, one after the other), A heads, D channels of a head, Q queries,
L levels, P points.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sample_deformable(
    value_NSAD: Tensor, shapes: list[tuple[int, int]], locations_NQALP2: Tensor, weights_NQALP: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples; zero outside the map, pixel centres at (i + 0.5) / size.

    Args:
        shapes: height and width of each level.
        locations_NQALP2: x, y in 0..1 of the map.

    Returns:
        (N, Q, A * D).
    """
    batch, _, heads, dims = value_NSAD.shape
    queries, points = locations_NQALP2.shape[1], locations_NQALP2.shape[4]
    grids = (2 * locations_NQALP2.float() - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    weights = weights_NQALP.permute(3, 0, 2, 1, 4).reshape(len(shapes), batch * heads, 1, queries, points)
    total: Tensor | None = None
    start = 0
    for level, (height, width) in enumerate(shapes):
        value = value_NSAD[:, start : start + height * width].permute(0, 2, 3, 1)
        value = value.reshape(batch * heads, dims, height, width).to(grids.dtype)
        start += height * width
        sampled = F.grid_sample(value, grids[level], mode="bilinear", padding_mode="zeros", align_corners=False)
        part = (sampled * weights[level]).sum(-1)
        total = part if total is None else total + part
    assert total is not None
    return total.view(batch, heads * dims, queries).transpose(1, 2)


def init_offsets_(layer: nn.Linear, heads: int, groups: int, points: int) -> None:
    """Offsets start on a ring: each head in its own direction, point p at p + 1 pixels (Deformable DETR)."""
    angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    ring = direction.view(heads, 1, 1, 2) * torch.arange(1, points + 1, dtype=torch.float32).view(1, 1, points, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(ring.expand(heads, groups, points, 2).reshape(-1))


def init_linear_(layer: nn.Linear, zero: bool = False) -> None:
    """Xavier with zero bias, or all zero."""
    if zero:
        nn.init.zeros_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
