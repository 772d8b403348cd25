"""Image augmentation on tensors, on any device: photometric distortion and GridMask, as VAD trains.

Random numbers come from a `torch.Generator` of the CPU and are drawn in a fixed number for each call, so that one seed
gives one result whatever the device, and nothing waits for a GPU. Neither function writes into its input.

Shape legend: B samples, K cameras, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BRIGHTNESS_DELTA = 32.0  # mmdet: PhotoMetricDistortion
CONTRAST_RANGE = (0.5, 1.5)
SATURATION_RANGE = (0.5, 1.5)
HUE_DELTA_DEG = 18.0
GRID_MASK_PROBABILITY = 0.7  # VAD: GridMask(rotate=1, ratio=0.5, mode=1, prob=0.7)
GRID_MASK_RATIO = 0.5


def augment_images(
    images: Tensor, generator: torch.Generator, mean: Sequence[float], std: Sequence[float], grid: bool = True
) -> Tensor:
    """Photometric distortion, then GridMask, on images as the network gets them.

    Args:
        images: (B, K, 3, H, W) normalised RGB; pixels that are 0 in all channels are padding and stay 0.
        mean, std: of the normalisation, RGB, in 0..255.
        grid: off for history frames, which upstream runs in eval mode, without GridMask.
    """
    scale, offset = (_to(torch.tensor(list(values)), images)[:, None, None] for values in (std, mean))
    is_image = (images != 0).any(dim=2, keepdim=True)
    distorted = (photometric_distortion(images * scale + offset, generator) - offset) / scale
    images = torch.where(is_image, distorted, 0.0)
    return grid_mask(images, generator) if grid else images


def photometric_distortion(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue and channel order, each with probability 1/2 for each image.

    Contrast comes before or after saturation and hue, by one more coin (mmdet: PhotoMetricDistortion). Unlike
    upstream the result is clipped to 0..255, which a camera cannot leave.

    Args:
        images: (B, K, 3, H, W) float RGB in 0..255.
    """
    flat = images.reshape(-1, *images.shape[-3:])
    n = len(flat)

    def draw(low: float, high: float, neutral: float) -> Tensor:
        coin, value = torch.rand(2, n, generator=generator)
        return torch.where(coin < 0.5, low + (high - low) * value, neutral)

    drawn = [
        draw(-BRIGHTNESS_DELTA, BRIGHTNESS_DELTA, 0.0),
        draw(*CONTRAST_RANGE, 1.0),
        draw(1.0, 1.0, 0.0),
        draw(*SATURATION_RANGE, 1.0),
        draw(-HUE_DELTA_DEG, HUE_DELTA_DEG, 0.0),
    ]
    order = torch.rand(n, 3, generator=generator).argsort(dim=1)
    order = torch.where(torch.rand(n, 1, generator=generator) < 0.5, order, torch.arange(3))

    order = order.to(flat.device, non_blocking=True)
    brightness, contrast, is_first, saturation, hue_deg = _to(torch.stack(drawn), flat)[..., None, None, None]
    flat = flat + brightness
    flat = torch.where(is_first > 0, flat * contrast, flat)
    flat = _shift_colours(flat, saturation, hue_deg)
    flat = torch.where(is_first > 0, flat, flat * contrast)
    flat = torch.gather(flat, 1, order[:, :, None, None].expand_as(flat))
    return flat.clamp(0.0, 255.0).reshape(images.shape)


def grid_mask(images: Tensor, generator: torch.Generator, probability: float = GRID_MASK_PROBABILITY) -> Tensor:
    """Sets a regular grid of squares to 0: one grid for all images of a sample, drawn with `probability`.

    The period is uniform in [2, H); rows and columns of half a period are kept, the squares between them vanish.

    Args:
        images: (B, ..., H, W), normalised, so that 0 is the mean colour.
    """
    height, width = images.shape[-2:]
    rows, columns = torch.ones(len(images), height), torch.ones(len(images), width)
    for sample in range(len(images)):
        coin, *uniform = torch.rand(4, generator=generator).tolist()
        period = 2 + int(uniform[0] * max(height - 2, 1))
        if coin < probability:
            rows[sample] = _stripes(height, period, int(uniform[1] * period))
            columns[sample] = _stripes(width, period, int(uniform[2] * period))
    mask = torch.maximum(_to(rows, images)[:, :, None], _to(columns, images)[:, None, :])
    return images * mask.reshape(len(images), *[1] * (images.dim() - 3), height, width)


def _stripes(size: int, period: int, start: int) -> Tensor:
    """(size,) bool: the kept half periods, of a canvas 1.5 times as large of which the middle is cut out.

    Only whole periods of the canvas have a stripe, as upstream.
    """
    canvas = int(1.5 * size)
    length = min(max(int(period * GRID_MASK_RATIO + 0.5), 1), period - 1)
    position = torch.arange(size) + (canvas - size) // 2 - start
    index = torch.div(position, period, rounding_mode="floor")
    return (index >= 0) & (index < canvas // period) & (position - index * period < length)


def _to(values: Tensor, like: Tensor) -> Tensor:
    """On the images' device in their type. Not blocking: small copies from pageable memory are staged at the call."""
    return values.to(like.device, like.dtype, non_blocking=True)


def _shift_colours(images: Tensor, saturation: Tensor, hue_deg: Tensor) -> Tensor:
    """(n, 3, H, W) RGB with its HSV saturation multiplied and its hue turned."""
    value, strongest = images.max(dim=1, keepdim=True)
    chroma = value - images.min(dim=1, keepdim=True).values
    safe = torch.where(chroma == 0, 1.0, chroma)
    red, green, blue = images.split(1, dim=1)
    sixth = torch.where(
        strongest == 0,
        (green - blue) / safe,
        torch.where(strongest == 1, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = sixth + hue_deg / 60
    k = (_to(torch.tensor([5.0, 3.0, 1.0]), images)[:, None, None] + sixth) % 6
    return value - chroma * saturation * torch.minimum(k, 4 - k).clamp(0.0, 1.0)
