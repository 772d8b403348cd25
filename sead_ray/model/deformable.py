"""Multi-scale deformable attention's sampling (Deformable DETR, Eq. 3) as weighted sums of table rows.

Every query and head owns a bag: the four pixels around each of its sampling points, weighted by bilinear
interpolation times attention. `embedding_bag` sums them straight from the value projection's output, so that neither
values nor samples are ever rearranged or stored. The gradient of the values is the same operation transposed; its
order of summation is fixed, on a GPU too. On CUDA Triton's kernels (`deformable_triton.py`) take its place.

Shape legend: I images, T values of an image (all levels, one after the other), A heads, D channels of a head,
N batch entries, Q queries, S images that a query samples, G groups of offsets, L levels, P points, Z places of a query
in an image.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sead_ray.model.constants import constant

Shapes = list[tuple[int, int]]

CPU_CHUNK = 1 << 17  # sampling points at a time: their indices and weights stay in the cache


def sample_deformable(value_NTAD: Tensor, shapes: Shapes, locations_NQALP2: Tensor, weights_NQALP: Tensor) -> Tensor:
    """Weighted sum of bilinear samples; zero outside the map, pixel centres at (i + 0.5) / size.

    Args:
        shapes: height and width of each level.
        locations_NQALP2: x, y in 0..1 of the map.

    Returns:
        (N, Q, A * D).
    """
    batch, queries = locations_NQALP2.shape[:2]
    image = torch.arange(batch, device=value_NTAD.device).view(-1, 1, 1)
    offsets = (locations_NQALP2 * level_sizes(shapes, locations_NQALP2)).unsqueeze(3)
    corner = offsets.new_zeros(batch, queries, 1, 1, 2)
    return sample_images(value_NTAD, shapes, image, corner, offsets, weights_NQALP.unsqueeze(3))


def sample_images(
    value_ITAD: Tensor,
    shapes: Shapes,
    image_NQS: Tensor,
    places_NQSZ2: Tensor,
    offsets_NQAGLP2: Tensor,
    weights_NQAGLP: Tensor,
    share_NQS: Tensor | None = None,
) -> Tensor:
    """The same where a query samples S images, around places of its own in each.

    Args:
        image_NQS: which images; also (N, 1, S).
        places_NQSZ2: x, y in 0..1 of the image; point p belongs to place p % Z.
        offsets_NQAGLP2: pixels of the level, added to the places. G is S, or 1 where all images share them.
        weights_NQAGLP: of the points; share_NQS: of the images. An image of share 0 is not read.

    Returns:
        (N, Q, A * D) in the precision of the sampling, at least float32; on CUDA in that of the values.
    """
    operator = _fused_operator(value_ITAD, weights_NQAGLP)
    if operator is not None:
        return operator.apply(value_ITAD, shapes, image_NQS, places_NQSZ2, offsets_NQAGLP2, weights_NQAGLP, share_NQS)
    number = torch.promote_types(value_ITAD.dtype, torch.float32)
    x, y, weights = _points(shapes, places_NQSZ2, offsets_NQAGLP2, weights_NQAGLP, share_NQS)
    batch, queries, heads, views = x.shape[:4]
    dims = value_ITAD.shape[-1]
    head = torch.arange(heads, device=x.device)
    first_row = (image_NQS.unsqueeze(2) * (value_ITAD.shape[1] * heads) + head.view(1, 1, heads, 1)).int()
    out = _WeightedSamples.apply(
        value_ITAD.reshape(-1, dims).to(number),
        shapes,
        heads,
        first_row.expand(batch, queries, heads, views).reshape(-1, views),
        *(points.to(number).reshape(-1, *points.shape[3:]) for points in (x, y, weights)),
    )
    return out.view(batch, queries, heads * dims)


def level_sizes(shapes: Shapes, like: Tensor) -> Tensor:
    """(L, 1, 2) width and height of each level."""
    return constant([[width, height] for height, width in shapes], like).view(-1, 1, 2)


def _points(
    shapes: Shapes, places: Tensor, offsets: Tensor, weights: Tensor, share: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """x, y in pixels of the level (0 is the centre of the first one), and weights: (N, Q, A, S, L, P) each."""
    repeats = offsets.shape[5] // places.shape[3]
    around = places.unsqueeze(3).repeat(1, 1, 1, 1, repeats, 1) * level_sizes(shapes, places) - 0.5
    around = around.unsqueeze(2)
    x, y = around[..., 0] + offsets[..., 0], around[..., 1] + offsets[..., 1]
    weights = weights.expand_as(x) if share is None else weights * share[:, :, None, :, None, None]
    return x, y, weights


def _fused_operator(value: Tensor, weights: Tensor) -> type[torch.autograd.Function] | None:
    """Triton's kernels on CUDA where Triton is installed and no fixed order of summation is asked for."""
    if value.device.type != "cuda" or torch.are_deterministic_algorithms_enabled() or torch.compiler.is_compiling():
        return None
    if torch.float64 in (value.dtype, weights.dtype) or importlib.util.find_spec("triton") is None:
        return None
    return _triton_operator()


@lru_cache(maxsize=1)
def _triton_operator() -> type[torch.autograd.Function]:
    return importlib.import_module("sead_ray.model.deformable_triton").TritonSamples


class _WeightedSamples(torch.autograd.Function):
    """table (R, D); first_row (bags, S); x, y, weights (bags, S, L, P) -> (bags, D).

    Written by hand because autograd would keep each of its two dozen intermediate results.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, shapes: Shapes, heads: int, first_row: Tensor, x: Tensor, y: Tensor, weights: Tensor
    ) -> Tensor:
        ctx.save_for_backward(table, first_row, x, y, weights)
        ctx.shapes, ctx.heads = shapes, heads
        parts = []
        for bags in _chunks(x):
            rows, shares = _corners(shapes, heads, first_row[bags], x[bags], y[bags])
            parts.append(_sum_rows(table, rows, shares.mul_(weights[bags].unsqueeze(3))))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        table, first_row, x, y, weights = ctx.saved_tensors
        shapes, heads = ctx.shapes, ctx.heads
        gradient = gradient.contiguous()
        grad_x, grad_y, grad_weights = torch.empty_like(x), torch.empty_like(y), torch.empty_like(weights)
        rows_of, shares_of = [], []
        for bags in _chunks(x):
            rows, shares = _corners(shapes, heads, first_row[bags], x[bags], y[bags])
            products = _row_products(gradient[bags], table, rows)
            grad_weights[bags] = (products * shares).sum(3)
            products *= weights[bags].unsqueeze(3)
            for level, (height, width) in enumerate(shapes):
                top_left, top_right, low_left, low_right = products[:, :, level].unbind(2)
                column, row = x[bags, :, level], y[bags, :, level]
                (x0, x1), (y0, y1) = _shares(column, width), _shares(row, height)
                (dx0, dx1), (dy0, dy1) = _slopes(column, width), _slopes(row, height)
                grad_x[bags, :, level] = dx0 * (y0 * top_left + y1 * low_left) + dx1 * (y0 * top_right + y1 * low_right)
                grad_y[bags, :, level] = dy0 * (x0 * top_left + x1 * top_right) + dy1 * (x0 * low_left + x1 * low_right)
            rows_of.append(rows[:, :, :, 0])
            shares_of.append(shares.mul_(weights[bags].unsqueeze(3)))
        grad_table = None
        if ctx.needs_input_grad[0]:
            grad_table = _transposed(gradient, torch.cat(rows_of), torch.cat(shares_of), shapes, heads, len(table))
        return grad_table, None, None, None, grad_x, grad_y, grad_weights


def _chunks(x: Tensor) -> list[slice]:
    count = max(1, len(x))
    step = max(1, CPU_CHUNK // x[:1].numel()) if x.device.type == "cpu" and x.numel() else count
    return [slice(start, start + step) for start in range(0, count, step)]


def _corners(shapes: Shapes, heads: int, first_row: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and bilinear shares of the four pixels around each point: (bags, S, L, 4, P); corners row by row."""
    bags, views, levels, points = x.shape
    rows = first_row.new_empty(bags, views, levels, 4, points)
    shares = x.new_empty(bags, views, levels, 4, points)
    start = 0
    for level, (height, width) in enumerate(shapes):
        column, row = x[:, :, level], y[:, :, level]
        first = _first_pixel(row, height).mul_(width).add_(_first_pixel(column, width)).add_(start).mul_(heads)
        first += first_row.unsqueeze(-1)
        (x0, x1), (y0, y1) = _shares(column, width), _shares(row, height)
        for corner, step in enumerate(_corner_steps((height, width), heads)):
            torch.add(first, step, out=rows[:, :, level, corner])
            torch.mul((y0, y1)[corner // 2], (x0, x1)[corner % 2], out=shares[:, :, level, corner])
        start += height * width
    return rows, shares


def _corner_steps(shape: tuple[int, int], heads: int) -> tuple[int, int, int, int]:
    """Rows of the table from the first corner to each; a map one pixel wide has no second column."""
    right = heads if shape[1] > 1 else 0
    down = shape[1] * heads if shape[0] > 1 else 0
    return 0, right, down, down + right


def _first_pixel(x: Tensor, extent: int) -> Tensor:
    """Left one of the two pixels that a point may touch, held inside the map (as is the nonsense of a NaN)."""
    return x.int().clamp_(0, max(extent - 2, 0))


def _shares(x: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """What the first and the second pixel get: 1 minus the distance, so nothing for a point beyond the border."""
    distance = x - _first_pixel(x, extent)
    second = (distance - 1).abs_().neg_().add_(1).clamp_(min=0) if extent > 1 else torch.zeros_like(distance)
    return distance.abs_().neg_().add_(1).clamp_(min=0), second


def _slopes(x: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """Derivatives of `_shares`; on a pixel's centre, the one to the right (as `grid_sample`)."""
    left = (x - _first_pixel(x, extent)).floor_()
    inside = (left == 0).to(x.dtype)
    return (left == -1).to(x.dtype) - inside, inside - (left == 1).to(x.dtype) if extent > 1 else torch.zeros_like(x)


def _sum_rows(table: Tensor, rows: Tensor, shares: Tensor) -> Tensor:
    """(bags, D)"""
    bags = len(rows)
    step = rows[:1].numel()
    offsets = torch.arange(bags, device=rows.device, dtype=rows.dtype) * step
    return F.embedding_bag(rows.view(-1), table, offsets, mode="sum", per_sample_weights=shares.view(-1))


def _row_products(gradient: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """(bags, ...) scalar product of each bag's gradient with each of its rows: embedding_bag's own derivative."""
    with torch.enable_grad():
        ones = gradient.new_ones(rows.shape).requires_grad_()
        total = _sum_rows(table.detach(), rows, ones)
    return torch.autograd.grad(total, ones, gradient)[0]


def _transposed(gradient: Tensor, rows: Tensor, shares: Tensor, shapes: Shapes, heads: int, size: int) -> Tensor:
    """(R, D) gradient of the table: points sorted by their first row are bags of the bags' gradients.

    rows (bags, S, L, P) of the first corners; shares (bags, S, L, 4, P).
    """
    total = gradient.new_zeros(size, gradient.shape[1])
    segments = torch.arange(size, device=rows.device, dtype=rows.dtype)
    for level, shape in enumerate(shapes):
        points = rows[:, :, level]
        in_order, order = torch.sort(points.reshape(-1), stable=True)
        offsets = torch.searchsorted(in_order, segments)
        bag = torch.div(order, points[:1].numel(), rounding_mode="floor")
        for corner, step in enumerate(_corner_steps(shape, heads)):
            weights = shares[:, :, level, corner].reshape(-1)[order]
            part = F.embedding_bag(bag, gradient, offsets, mode="sum", per_sample_weights=weights)
            total[step:] += part[: size - step]
    return total


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
