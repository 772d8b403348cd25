"""From decoded pixels to augmented, normalised images in one Triton kernel, for CUDA: each pixel is read and written
once. The steps are those of `augment.py`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
COLOURS = 8  # numbers of an image, see `augment.Draws`


@triton.jit
def _turned(value, chroma, sixth, number, saturation):
    """One channel of HSV to RGB; `number`: 5, 3, 1 for red, green, blue."""
    k = number + sixth
    k = k - 6.0 * tl.floor(k / 6.0)
    share = tl.minimum(k, 4.0 - k)
    return value - chroma * saturation * tl.minimum(tl.maximum(share, 0.0), 1.0)


@triton.jit
def _channel(red, green, blue, number):
    return tl.where(number == 0, red, tl.where(number == 1, green, blue))


@triton.jit
def _distorted(red, green, blue, numbers):
    """`augment.distort` on three channels."""
    contrast = tl.load(numbers + 1)
    first = tl.load(numbers + 2) > 0
    before = tl.where(first, contrast, 1.0)
    after = tl.where(first, 1.0, contrast)
    brightness = tl.load(numbers)
    red = (red + brightness) * before
    green = (green + brightness) * before
    blue = (blue + brightness) * before
    value = tl.maximum(tl.maximum(red, green), blue)
    chroma = value - tl.minimum(tl.minimum(red, green), blue)
    safe = tl.where(chroma == 0, 1.0, chroma)
    later = tl.where(green == value, (blue - red) / safe + 2, (red - green) / safe + 4)
    sixth = tl.where(red == value, (green - blue) / safe, later) + tl.load(numbers + 4) / 60
    saturation = tl.load(numbers + 3)
    red = _turned(value, chroma, sixth, 5.0, saturation) * after
    green = _turned(value, chroma, sixth, 3.0, saturation) * after
    blue = _turned(value, chroma, sixth, 1.0, saturation) * after
    one = _channel(red, green, blue, tl.load(numbers + 5))
    two = _channel(red, green, blue, tl.load(numbers + 6))
    three = _channel(red, green, blue, tl.load(numbers + 7))
    return (
        tl.minimum(tl.maximum(one, 0.0), 255.0),
        tl.minimum(tl.maximum(two, 0.0), 255.0),
        tl.minimum(tl.maximum(three, 0.0), 255.0),
    )


@triton.jit
def _prepare(
    pixels, colours, rows, columns, statistics, out, height, width, valid_height, cameras,
    DISTORT: tl.constexpr, GRID: tl.constexpr, LAST: tl.constexpr, NUMBERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = height * width
    inside = at < plane
    start = image * plane * 3
    red = tl.load(pixels + start + at * 3, mask=inside, other=0).to(tl.float32)
    green = tl.load(pixels + start + at * 3 + 1, mask=inside, other=0).to(tl.float32)
    blue = tl.load(pixels + start + at * 3 + 2, mask=inside, other=0).to(tl.float32)
    if DISTORT:
        red, green, blue = _distorted(red, green, blue, colours + image * NUMBERS)
    row = at // width
    keep = (row < valid_height).to(tl.float32)
    if GRID:
        sample = image // cameras
        in_row = tl.load(rows + sample * height + row, mask=inside, other=0.0)
        keep *= tl.maximum(in_row, tl.load(columns + sample * width + at % width, mask=inside, other=0.0))
    step = 3 if LAST else 1
    across = 1 if LAST else plane
    target = out + start + at * step
    number = out.dtype.element_ty
    red = (red - tl.load(statistics)) / tl.load(statistics + 3) * keep
    green = (green - tl.load(statistics + 1)) / tl.load(statistics + 4) * keep
    blue = (blue - tl.load(statistics + 2)) / tl.load(statistics + 5) * keep
    tl.store(target, red.to(number), mask=inside)
    tl.store(target + across, green.to(number), mask=inside)
    tl.store(target + 2 * across, blue.to(number), mask=inside)


# Any: a launch takes plain numbers and tensors where the kernel's annotations speak of Triton's own values.
_launch: Any = _prepare


def prepared(
    pixels: Tensor,
    valid_height: int,
    statistics: Tensor,
    colours: Tensor | None,
    grid: tuple[Tensor, Tensor] | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """(B, K, 3, H, W) in `dtype` from (B, K, H, W, 3) uint8.

    Args:
        statistics: (6,) mean, then deviation.
        colours: (B, K, 8); grid: (B, H) and (B, W); None: not distorted, not masked.
    """
    samples, cameras, height, width, _ = pixels.shape
    pixels = pixels.contiguous()
    shape = (samples * cameras, height, width, 3) if channels_last else (samples * cameras, 3, height, width)
    out = torch.empty(shape, dtype=dtype, device=pixels.device)
    colours_at = statistics if colours is None else colours.contiguous()
    rows, columns = (statistics, statistics) if grid is None else (part.contiguous() for part in grid)
    _launch[(triton.cdiv(height * width, BLOCK), samples * cameras)](
        pixels, colours_at, rows, columns, statistics, out, height, width, valid_height, cameras,
        colours is not None, grid is not None, channels_last, COLOURS, BLOCK,
    )  # fmt: skip
    out = out.permute(0, 3, 1, 2) if channels_last else out
    return out.unflatten(0, (samples, cameras))
