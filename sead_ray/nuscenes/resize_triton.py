"""Resize of camera images, and their normalisation, as one Triton kernel; needs CUDA. See `device_images.py`."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB, ImageGeometry

BLOCK = 512  # pixels of one colour plane


@triton.jit
def _kernel(
    source,
    out,
    row_first,
    row_second,
    row_of_first,
    row_of_second,
    column_first,
    column_second,
    column_of_first,
    column_of_second,
    mean,
    deviation,
    SOURCE_HEIGHT: tl.constexpr,
    SOURCE_WIDTH: tl.constexpr,
    HEIGHT: tl.constexpr,
    PADDED_HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    NORMALISED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    plane = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < PADDED_HEIGHT * WIDTH
    row, column = pixel // WIDTH, pixel % WIDTH
    filled = inside & (row < HEIGHT)
    left, right = tl.load(column_first + column), tl.load(column_second + column)
    of_left, of_right = tl.load(column_of_first + column), tl.load(column_of_second + column)
    plane_start = source + plane * SOURCE_HEIGHT * SOURCE_WIDTH
    upper = plane_start + tl.load(row_first + row, filled, 0) * SOURCE_WIDTH
    lower = plane_start + tl.load(row_second + row, filled, 0) * SOURCE_WIDTH
    top = tl.load(upper + left, filled, 0).to(tl.int32) * of_left
    top += tl.load(upper + right, filled, 0).to(tl.int32) * of_right
    bottom = tl.load(lower + left, filled, 0).to(tl.int32) * of_left
    bottom += tl.load(lower + right, filled, 0).to(tl.int32) * of_right
    # OpenCV's rounding: four bits fall away before the second product, sixteen behind it, two at the end.
    mixed = ((top >> 4) * tl.load(row_of_first + row, filled, 0)) >> 16
    mixed += ((bottom >> 4) * tl.load(row_of_second + row, filled, 0)) >> 16
    colour = plane % 3
    level = tl.where(filled, (mixed + 2) >> 2, 0)
    if NORMALISED:
        value = (level.to(tl.float32) - tl.load(mean + colour)) / tl.load(deviation + colour)
        tl.store(out + plane * PADDED_HEIGHT * WIDTH + pixel, tl.where(filled, value, 0.0), inside)
    else:
        tl.store(out + ((plane // 3) * PADDED_HEIGHT * WIDTH + pixel) * 3 + colour, level.to(tl.uint8), inside)


def resize(images: Tensor, geometry: ImageGeometry, taps: Any, normalised: bool) -> Tensor:
    """As `device_images.resize`; `taps`: of rows and of columns."""
    rows, columns = taps
    count, size = len(images), (geometry.padded_height, geometry.width)
    shape = (count, 3, *size) if normalised else (count, *size, 3)
    out = torch.empty(shape, dtype=torch.float32 if normalised else torch.uint8, device=images.device)
    mean, deviation = _colours(images.device)
    sizes: dict[str, Any] = {
        "SOURCE_HEIGHT": geometry.source_height,
        "SOURCE_WIDTH": geometry.source_width,
        "HEIGHT": geometry.height,
        "PADDED_HEIGHT": geometry.padded_height,
        "WIDTH": geometry.width,
        "NORMALISED": normalised,
        "BLOCK": BLOCK,
    }
    grid = (triton.cdiv(geometry.padded_height * geometry.width, BLOCK), count * 3)
    _kernel[grid](
        images.contiguous(),
        out,
        *(rows.first, rows.second, rows.of_first, rows.of_second),
        *(columns.first, columns.second, columns.of_first, columns.of_second),
        mean,
        deviation,
        **sizes,
    )
    return out


_COLOURS: dict[torch.device, tuple[Tensor, Tensor]] = {}


def _colours(device: torch.device) -> tuple[Tensor, Tensor]:
    if device not in _COLOURS:
        with torch.inference_mode(False):
            _COLOURS[device] = torch.tensor(MEAN_RGB, device=device), torch.tensor(STD_RGB, device=device)
    return _COLOURS[device]
