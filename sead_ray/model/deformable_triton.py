"""The sampling of `deformable.py` as two Triton kernels, for CUDA: no intermediate result goes through memory.

A program takes BAGS bags (a query's head) and all D channels. It adds offsets to places, skips images that none of its
queries sees, and reads each sampling point's four pixels where they lie inside the map. The gradient of the values is
added with atomics, so its order of summation is not fixed: where `torch.use_deterministic_algorithms` asks for one,
`deformable.py` does not come here.

Shape legend as there: I images, T values of an image, A heads, D channels of a head, N batch entries, Q queries, S
images that a query samples, G groups of offsets (S or 1), L levels, P points, Z places of a query in an image.
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
def _point(places, offsets, weights, place, point, width, height, in_bags):
    """Pixel left above the point, the point's distance from it in x and y, and its weight; (BAGS,) each."""
    x = tl.load(places + 2 * place, mask=in_bags, other=-9.0) * width - 0.5
    y = tl.load(places + 2 * place + 1, mask=in_bags, other=-9.0) * height - 0.5
    x += tl.load(offsets + 2 * point, mask=in_bags, other=0.0).to(tl.float32)
    y += tl.load(offsets + 2 * point + 1, mask=in_bags, other=0.0).to(tl.float32)
    weight = tl.load(weights + point, mask=in_bags, other=0.0).to(tl.float32)
    return tl.floor(x), tl.floor(y), x - tl.floor(x), y - tl.floor(y), weight


@triton.jit
def _corner(table, first_row, column, row, width, height, start, heads, channel, in_bags, D):
    """Offsets into the table of a pixel's channels, (BAGS, channels), and where they may be read."""
    inside = in_bags & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    offset = (first_row + (start + row * width + column) * heads) * D
    return offset[:, None] + channel[None, :], inside[:, None] & (channel < D)[None, :]


@triton.jit
def _first_row(images, cell, view, queries, image_n, image_q, pixels, in_bags):
    """(BAGS,) number of the first pixel of the image that each bag's query samples, among all images' pixels."""
    at = images + (cell // queries) * image_n + (cell % queries) * image_q + view
    return tl.load(at, mask=in_bags, other=0).to(tl.int64) * pixels


@triton.jit
def _share(shares, cell, view, in_bags, S, SHARED):
    """(BAGS,) weight of an image for each bag's query."""
    if SHARED:  # noqa: SIM108 - Triton wants one type in both branches of a conditional expression
        share = tl.load(shares + cell * S + view, mask=in_bags, other=0.0)
    else:
        share = in_bags.to(tl.float32)
    return share


@triton.jit
def _forward(
    table, images, places, offsets, weights, shares, levels, out, bags, queries, pixels, heads, image_n, image_q,
    D: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, G: tl.constexpr, L: tl.constexpr, P: tl.constexpr,
    SHARED: tl.constexpr, BAGS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0) * BAGS + tl.arange(0, BAGS)
    channel = tl.arange(0, CHANNELS)
    in_bags = bag < bags
    cell = bag // heads
    total = tl.zeros((BAGS, CHANNELS), tl.float32)
    for view in range(S):
        share = _share(shares, cell, view, in_bags, S, SHARED)
        if tl.max(share, axis=0) > 0:
            image = tl.load(
                images + (cell // queries) * image_n + (cell % queries) * image_q + view, mask=in_bags, other=0
            )
            first_row = image.to(tl.int64) * pixels * heads + bag % heads
            group = view if G > 1 else 0
            for level in range(L):
                height = tl.load(levels + level * 3)
                width = tl.load(levels + level * 3 + 1)
                start = tl.load(levels + level * 3 + 2)
                for p in range(P):
                    point = ((bag.to(tl.int64) * G + group) * L + level) * P + p
                    place = (cell.to(tl.int64) * S + view) * Z + p % Z  # ty: ignore[unsupported-operator]
                    x0, y0, fx, fy, weight = _point(
                        places, offsets, weights, place, point, width, height, in_bags
                    )  # fmt: skip
                    weight = weight * share
                    column = x0.to(tl.int32)
                    row = y0.to(tl.int32)
                    seen = in_bags & (share > 0)
                    for corner in tl.static_range(4):
                        part = (fx if corner % 2 else 1 - fx) * (fy if corner // 2 else 1 - fy)
                        offset, inside = _corner(
                            table, first_row, column + corner % 2, row + corner // 2, width, height, start, heads,
                            channel, seen, D,
                        )  # fmt: skip
                        total += (
                            tl.load(table + offset, mask=inside, other=0.0).to(tl.float32) * (part * weight)[:, None]
                        )
    at = bag.to(tl.int64)[:, None] * D + channel[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=in_bags[:, None] & (channel < D)[None, :])


@triton.jit
def _backward(
    table, images, places, offsets, weights, shares, levels, gradient, grad_table, grad_offsets, grad_weights,
    bags, queries, pixels, heads, image_n, image_q,
    D: tl.constexpr, S: tl.constexpr, Z: tl.constexpr, G: tl.constexpr, L: tl.constexpr, P: tl.constexpr,
    SHARED: tl.constexpr, BAGS: tl.constexpr, CHANNELS: tl.constexpr, TABLE: tl.constexpr,
):  # fmt: skip
    bag = tl.program_id(0) * BAGS + tl.arange(0, BAGS)
    channel = tl.arange(0, CHANNELS)
    in_bags = bag < bags
    cell = bag // heads
    at = bag.to(tl.int64)[:, None] * D + channel[None, :]
    above = tl.load(gradient + at, mask=in_bags[:, None] & (channel < D)[None, :], other=0.0).to(tl.float32)
    for group in range(G):
        for level in range(L):
            height = tl.load(levels + level * 3)
            width = tl.load(levels + level * 3 + 1)
            start = tl.load(levels + level * 3 + 2)
            for p in range(P):
                point = ((bag.to(tl.int64) * G + group) * L + level) * P + p
                along_x = tl.zeros((BAGS,), tl.float32)
                along_y = tl.zeros((BAGS,), tl.float32)
                along_weight = tl.zeros((BAGS,), tl.float32)
                for other in range(S // G):
                    view = group if G > 1 else other
                    share = _share(shares, cell, view, in_bags, S, SHARED)
                    if tl.max(share, axis=0) > 0:
                        first_row = _first_row(images, cell, view, queries, image_n, image_q, pixels, in_bags)
                        first_row = first_row * heads + bag % heads
                        place = (cell.to(tl.int64) * S + view) * Z + p % Z  # ty: ignore[unsupported-operator]
                        x0, y0, fx, fy, weight = _point(
                            places, offsets, weights, place, point, width, height, in_bags
                        )  # fmt: skip
                        column = x0.to(tl.int32)
                        row = y0.to(tl.int32)
                        seen = in_bags & (share > 0)
                        for corner in tl.static_range(4):
                            in_x = fx if corner % 2 else 1 - fx
                            in_y = fy if corner // 2 else 1 - fy
                            offset, inside = _corner(
                                table, first_row, column + corner % 2, row + corner // 2, width, height, start, heads,
                                channel, seen, D,
                            )  # fmt: skip
                            value = tl.load(table + offset, mask=inside, other=0.0).to(tl.float32)
                            product = tl.sum(above * value, axis=1) * share
                            along_weight += product * in_x * in_y
                            along_x += (product if corner % 2 else -product) * in_y * weight
                            along_y += (product if corner // 2 else -product) * in_x * weight
                            if TABLE:
                                part = in_x * in_y * weight * share
                                tl.atomic_add(grad_table + offset, above * part[:, None], mask=inside)
                tl.store(grad_offsets + 2 * point, along_x, mask=in_bags)
                tl.store(grad_offsets + 2 * point + 1, along_y, mask=in_bags)
                tl.store(grad_weights + point, along_weight, mask=in_bags)


# Any: a launch takes plain numbers and tensors where the kernels' annotations speak of Triton's own values.
_launch_forward: Any = _forward
_launch_backward: Any = _backward


class TritonSamples(torch.autograd.Function):
    """`deformable.sample_images`; float32 or a shorter type. Places have a gradient where G is S, shares have none."""

    @staticmethod
    def forward(
        ctx: Any,
        value_ITAD: Tensor,
        shapes: Sequence[tuple[int, int]],
        image_NQS: Tensor,
        places_NQSZ2: Tensor,
        offsets_NQAGLP2: Tensor,
        weights_NQAGLP: Tensor,
        share_NQS: Tensor | None,
    ) -> Tensor:
        assert share_NQS is None or not share_NQS.requires_grad, "shares have no gradient"
        batch, queries, views = places_NQSZ2.shape[:3]
        images = image_NQS.int().expand(batch, -1, views).contiguous()
        parts = [value_ITAD, places_NQSZ2.float(), offsets_NQAGLP2, weights_NQAGLP]
        value, places, offsets, weights = (part.contiguous() for part in parts)
        share = places if share_NQS is None else share_NQS.float().contiguous()
        levels = _levels(shapes, images)
        heads, dims = value.shape[2:]
        assert offsets.shape[3] in (1, views), f"{offsets.shape[3]} groups of offsets for {views} images"
        assert places.requires_grad is False or offsets.shape[3] == views, "places shared by groups have no gradient"
        out = value.new_empty(batch, queries, heads * dims)
        numbers = _numbers(value, images, places, offsets, share_NQS is not None)
        _launch_forward[_grid(numbers)](value, images, places, offsets, weights, share, levels, out, *numbers)
        ctx.save_for_backward(value, images, places, offsets, weights, share, levels)
        ctx.numbers, ctx.place_type = numbers, places_NQSZ2.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        value, images, places, offsets, weights, share, levels = ctx.saved_tensors
        needs_value, needs_places = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        number = torch.float32
        grad_value = torch.zeros_like(value, dtype=number) if needs_value else value
        grad_offsets, grad_weights = (torch.empty_like(part, dtype=number) for part in (offsets, weights))
        _launch_backward[_grid(ctx.numbers)](
            value, images, places, offsets, weights, share, levels, gradient.contiguous(), grad_value, grad_offsets,
            grad_weights, *ctx.numbers, needs_value,
        )  # fmt: skip
        grad_places = None
        if needs_places:
            sizes = torch.stack([levels[:, 1], levels[:, 0]], -1).to(number)  # width, height
            by_place = (grad_offsets * sizes[:, None]).unflatten(
                5, (-1, places.shape[3])
            )  # (N, Q, A, S, L, P / Z, Z, 2)
            grad_places = by_place.sum((2, 4, 5)).to(ctx.place_type)
        return (
            grad_value.to(value.dtype) if needs_value else None,
            None,
            None,
            grad_places,
            grad_offsets.to(offsets.dtype),
            grad_weights.to(weights.dtype),
            None,
        )


def _levels(shapes: Sequence[tuple[int, int]], like: Tensor) -> Tensor:
    """(L, 3) int32: height, width, and pixels of the levels before."""
    rows, start = [], 0
    for height, width in shapes:
        rows.append((height, width, start))
        start += height * width
    return constant(rows, like)


def _numbers(value: Tensor, images: Tensor, places: Tensor, offsets: Tensor, shared: bool) -> tuple[Any, ...]:
    """What both kernels take after their tensors."""
    pixels, heads, dims = value.shape[1:]
    batch, queries, views, heights = places.shape[:4]
    groups, levels, points = offsets.shape[3:6]
    per_query = views if images.shape[1] > 1 else 0
    runtime = (batch * queries * heads, queries, pixels, heads, images.shape[1] * views, per_query)
    channels = max(16, triton.next_power_of_2(dims))
    return *runtime, dims, views, heights, groups, levels, points, shared, BAGS, channels


def _grid(numbers: tuple[Any, ...]) -> tuple[int]:
    return (max(1, triton.cdiv(numbers[0], BAGS)),)
