"""Image augmentation on tensors, on any device: photometric distortion and GridMask, as VAD trains.

Random numbers come from a `torch.Generator` of the CPU and are drawn in a fixed number for each call, so that one seed
gives one result whatever the device, and nothing waits for a GPU. Neither function writes into its input.

Shape legend: B samples, K cameras, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sead_ray.model.constants import constant

BRIGHTNESS_DELTA = 32.0  # mmdet: PhotoMetricDistortion
CONTRAST_RANGE = (0.5, 1.5)
SATURATION_RANGE = (0.5, 1.5)
HUE_DELTA_DEG = 18.0
GRID_MASK_PROBABILITY = 0.7  # VAD: GridMask(rotate=1, ratio=0.5, mode=1, prob=0.7)
GRID_MASK_RATIO = 0.5


@dataclass(frozen=True)
class Draws:
    """Random numbers for the images of B samples, Q steps of a queue each; drawn on a CPU, used on any device.

    Attributes:
        colours: (Q, B, K, 8) brightness, contrast, whether contrast comes first, saturation, hue in degrees, and the
            channel that each of the three becomes.
        rows, columns: (B, H) and (B, W), 1 where GridMask keeps all pixels of the last step.
    """

    colours: Tensor
    rows: Tensor
    columns: Tensor


def draw(steps: int, samples: int, cameras: int, height: int, width: int, generator: torch.Generator) -> Draws:
    """All draws for a batch of queues of `steps` frames."""
    colours = draw_colours(steps * samples * cameras, generator).view(steps, samples, cameras, -1)
    return Draws(colours, *draw_grid(samples, height, width, generator))


def augment_images(
    images: Tensor, generator: torch.Generator, mean: Sequence[float], std: Sequence[float], grid: bool = True
) -> Tensor:
    """Photometric distortion, then GridMask, on images as the network gets them.

    Args:
        images: (B, K, 3, H, W) normalised RGB; pixels that are 0 in all channels are padding and stay 0.
        mean, std: of the normalisation, RGB, in 0..255.
        grid: off for history frames, which upstream runs in eval mode, without GridMask.
    """
    colours = draw_colours(images[:, :, 0, 0, 0].numel(), generator)
    images = distort_normalised(images, _to(colours, images).view(*images.shape[:2], -1), mean, std)
    return grid_mask(images, generator) if grid else images


def distort_normalised(images: Tensor, colours: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Photometric distortion of (B, K, 3, H, W) normalised images by `colours` (B, K, 8); padding stays 0."""
    scale, offset = (constant(list(values), images)[:, None, None] for values in (std, mean))
    is_image = (images != 0).any(dim=2, keepdim=True)
    distorted = (distort(images * scale + offset, colours) - offset) / scale
    return torch.where(is_image, distorted, 0.0)


def photometric_distortion(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation, hue and channel order, each with probability 1/2 for each image.

    Contrast comes before or after saturation and hue, by one more coin (mmdet: PhotoMetricDistortion). Unlike
    upstream the result is clipped to 0..255, which a camera cannot leave.

    Args:
        images: (B, K, 3, H, W) float RGB in 0..255.
    """
    colours = draw_colours(images[:, :, 0, 0, 0].numel(), generator)
    return distort(images, _to(colours, images).view(*images.shape[:2], -1))


def draw_colours(n: int, generator: torch.Generator) -> Tensor:
    """(n, 8) see `Draws.colours`."""

    def number(low: float, high: float, neutral: float) -> Tensor:
        coin, value = torch.rand(2, n, generator=generator)
        return torch.where(coin < 0.5, low + (high - low) * value, neutral)

    drawn = [
        number(-BRIGHTNESS_DELTA, BRIGHTNESS_DELTA, 0.0),
        number(*CONTRAST_RANGE, 1.0),
        number(1.0, 1.0, 0.0),
        number(*SATURATION_RANGE, 1.0),
        number(-HUE_DELTA_DEG, HUE_DELTA_DEG, 0.0),
    ]
    order = torch.rand(n, 3, generator=generator).argsort(dim=1)
    order = torch.where(torch.rand(n, 1, generator=generator) < 0.5, order, torch.arange(3))
    return torch.cat([torch.stack(drawn, 1), order.float()], 1)


def distort(images: Tensor, colours: Tensor) -> Tensor:
    """(..., 3, H, W) float RGB in 0..255, by `colours` (..., 8)."""
    brightness, contrast, is_first, saturation, hue_deg = colours[..., :5, None, None, None].unbind(-4)
    images = images + brightness
    images = torch.where(is_first > 0, images * contrast, images)
    images = _shift_colours(images, saturation, hue_deg)
    images = torch.where(is_first > 0, images, images * contrast)
    images = torch.gather(images, -3, colours[..., 5:, None, None].long().expand_as(images))
    return images.clamp(0.0, 255.0)


def grid_mask(images: Tensor, generator: torch.Generator, probability: float = GRID_MASK_PROBABILITY) -> Tensor:
    """Sets a regular grid of squares to 0: one grid for all images of a sample, drawn with `probability`.

    The period is uniform in [2, H); rows and columns of half a period are kept, the squares between them vanish.

    Args:
        images: (B, ..., H, W), normalised, so that 0 is the mean colour.
    """
    rows, columns = draw_grid(len(images), *images.shape[-2:], generator, probability)
    return mask_grid(images, _to(rows, images), _to(columns, images))


def draw_grid(
    samples: int, height: int, width: int, generator: torch.Generator, probability: float = GRID_MASK_PROBABILITY
) -> tuple[Tensor, Tensor]:
    """(B, H) and (B, W), 1 in the rows and columns that are kept whole."""
    rows, columns = torch.ones(samples, height), torch.ones(samples, width)
    for sample in range(samples):
        coin, *uniform = torch.rand(4, generator=generator).tolist()
        period = 2 + int(uniform[0] * max(height - 2, 1))
        if coin < probability:
            rows[sample] = _stripes(height, period, int(uniform[1] * period))
            columns[sample] = _stripes(width, period, int(uniform[2] * period))
    return rows, columns


def mask_grid(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, ..., H, W) by the rows and columns of `draw_grid`."""
    mask = torch.maximum(rows[:, :, None], columns[:, None, :])
    return images * mask.reshape(len(images), *[1] * (images.dim() - 3), *images.shape[-2:])


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
    """(..., 3, H, W) RGB with its HSV saturation multiplied and its hue turned."""
    value, strongest = images.max(dim=-3, keepdim=True)
    chroma = value - images.min(dim=-3, keepdim=True).values
    safe = torch.where(chroma == 0, 1.0, chroma)
    red, green, blue = images.split(1, dim=-3)
    sixth = torch.where(
        strongest == 0,
        (green - blue) / safe,
        torch.where(strongest == 1, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = sixth + hue_deg / 60
    k = (constant([5.0, 3.0, 1.0], images)[:, None, None] + sixth) % 6
    return value - chroma * saturation * torch.minimum(k, 4 - k).clamp(0.0, 1.0)
