"""The sampling of `deformable.py` as two Triton kernels, for CUDA: no intermediate result goes through memory.

A program takes BAGS bags (a query's head) and all D channels; it reads each sampling point's four pixels where they lie
inside the map. The gradient of the values is added with atomics, so its order of summation is not fixed: where
`torch.use_deterministic_algorithms` asks for one, `deformable.py` does not come here.

Shape legend: R rows of the table (an image's values, head after head), D channels, S images, L levels, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from sead_ray.model.constants import constant

BAGS = 32


@triton.jit
def _corner(table, first_row, column, row, width, height, start, heads, channel, in_bags, D):
    """Offsets into the table of a pixel's channels, (BAGS, channels), and where they may be read."""
    inside = in_bags & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    offset = (first_row + (start + row * width + column) * heads) * D
    return offset[:, None] + channel[None, :], inside[:, None] & (channel < D)[None, :]


@triton.jit
def _forward(
    table, first_rows, levels, xs, ys, weights, out, bags, heads,
    D: tl.constexpr, S: tl.constexpr, L: tl.constexpr, P: tl.constexpr, BAGS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0) * BAGS + tl.arange(0, BAGS)
    channel = tl.arange(0, CHANNELS)
    in_bags = bag < bags
    total = tl.zeros((BAGS, CHANNELS), tl.float32)
    for view in range(S):
        first_row = tl.load(first_rows + bag * S + view, mask=in_bags, other=0).to(tl.int64)
        for level in range(L):
            height = tl.load(levels + level * 3)
            width = tl.load(levels + level * 3 + 1)
            start = tl.load(levels + level * 3 + 2)
            for p in range(P):
                point = ((bag.to(tl.int64) * S + view) * L + level) * P + p
                x = tl.load(xs + point, mask=in_bags, other=-9.0)
                y = tl.load(ys + point, mask=in_bags, other=-9.0)
                weight = tl.load(weights + point, mask=in_bags, other=0.0)
                x0 = tl.floor(x)
                y0 = tl.floor(y)
                fx = x - x0
                fy = y - y0
                column = x0.to(tl.int32)
                row = y0.to(tl.int32)
                for corner in tl.static_range(4):
                    share = (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                    offset, inside = _corner(
                        table, first_row, column + corner % 2, row + corner // 2, width, height, start, heads,
                        channel, in_bags, D,
                    )  # fmt: skip
                    total += tl.load(table + offset, mask=inside, other=0.0) * (share * weight)[:, None]
    place = bag.to(tl.int64)[:, None] * D + channel[None, :]
    tl.store(out + place, total, mask=in_bags[:, None] & (channel < D)[None, :])


@triton.jit
def _backward(
    table, first_rows, levels, xs, ys, weights, gradient, grad_table, grad_x, grad_y, grad_weights, bags, heads,
    D: tl.constexpr, S: tl.constexpr, L: tl.constexpr, P: tl.constexpr, BAGS: tl.constexpr, CHANNELS: tl.constexpr,
    TABLE: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0) * BAGS + tl.arange(0, BAGS)
    channel = tl.arange(0, CHANNELS)
    in_bags = bag < bags
    place = bag.to(tl.int64)[:, None] * D + channel[None, :]
    above = tl.load(gradient + place, mask=in_bags[:, None] & (channel < D)[None, :], other=0.0)
    for view in range(S):
        first_row = tl.load(first_rows + bag * S + view, mask=in_bags, other=0).to(tl.int64)
        for level in range(L):
            height = tl.load(levels + level * 3)
            width = tl.load(levels + level * 3 + 1)
            start = tl.load(levels + level * 3 + 2)
            for p in range(P):
                point = ((bag.to(tl.int64) * S + view) * L + level) * P + p
                x = tl.load(xs + point, mask=in_bags, other=-9.0)
                y = tl.load(ys + point, mask=in_bags, other=-9.0)
                weight = tl.load(weights + point, mask=in_bags, other=0.0)
                x0 = tl.floor(x)
                y0 = tl.floor(y)
                fx = x - x0
                fy = y - y0
                column = x0.to(tl.int32)
                row = y0.to(tl.int32)
                along_x = tl.zeros((BAGS,), tl.float32)
                along_y = tl.zeros((BAGS,), tl.float32)
                along_weight = tl.zeros((BAGS,), tl.float32)
                for corner in tl.static_range(4):
                    in_x = fx if corner % 2 else 1 - fx
                    in_y = fy if corner // 2 else 1 - fy
                    offset, inside = _corner(
                        table, first_row, column + corner % 2, row + corner // 2, width, height, start, heads,
                        channel, in_bags, D,
                    )  # fmt: skip
                    product = tl.sum(above * tl.load(table + offset, mask=inside, other=0.0), axis=1)
                    along_weight += product * in_x * in_y
                    along_x += (product if corner % 2 else -product) * in_y
                    along_y += (product if corner // 2 else -product) * in_x
                    if TABLE:
                        tl.atomic_add(grad_table + offset, above * (in_x * in_y * weight)[:, None], mask=inside)
                tl.store(grad_x + point, along_x * weight, mask=in_bags)
                tl.store(grad_y + point, along_y * weight, mask=in_bags)
                tl.store(grad_weights + point, along_weight, mask=in_bags)


# Any: a launch takes plain numbers and tensors where the kernels' annotations speak of Triton's own values.
_launch_forward: Any = _forward
_launch_backward: Any = _backward


class TritonSamples(torch.autograd.Function):
    """table (R, D) float32; first_row (bags, S); x, y, weights (bags, S, L, P) float32 -> (bags, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        shapes: Sequence[tuple[int, int]],
        heads: int,
        first_row: Tensor,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
    ) -> Tensor:
        inputs = [part.contiguous() for part in (table, first_row, x, y, weights)]
        levels = _levels(shapes, first_row)
        bags, dims = len(x), table.shape[1]
        out = table.new_empty(bags, dims)
        table, first_row, x, y, weights = inputs
        _launch_forward[_grid(bags)](table, first_row, levels, x, y, weights, out, bags, heads, *_sizes(x, dims))
        ctx.save_for_backward(*inputs, levels)
        ctx.heads = heads
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        table, first_row, x, y, weights, levels = ctx.saved_tensors
        needs_table = ctx.needs_input_grad[0]
        grad_table = torch.zeros_like(table) if needs_table else table
        grads = [torch.empty_like(part) for part in (x, y, weights)]
        _launch_backward[_grid(len(x))](
            table, first_row, levels, x, y, weights, gradient.contiguous(), grad_table, *grads, len(x), ctx.heads,
            *_sizes(x, table.shape[1]), needs_table,
        )  # fmt: skip
        return grad_table if needs_table else None, None, None, None, *grads


def _levels(shapes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """(L, 3) int32: height, width, and pixels of the levels before."""
    rows, start = [], 0
    for height, width in shapes:
        rows.append((height, width, start))
        start += height * width
    return constant(rows, like)


def _grid(bags: int) -> tuple[int]:
    return (max(1, triton.cdiv(bags, BAGS)),)


def _sizes(x: Tensor, dims: int) -> tuple[int, ...]:
    return dims, *x.shape[1:], BAGS, max(16, triton.next_power_of_2(dims))
