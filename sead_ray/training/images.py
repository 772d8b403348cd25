"""Decoded pixels to what the image network takes in training: augmented where it is asked for, normalised, laid out."""

from __future__ import annotations

import importlib
import importlib.util

import torch
from torch import Tensor

from sead_ray.model.constants import constant
from sead_ray.nuscenes.images import MEAN_RGB, STD_RGB, normalise
from sead_ray.training.augment import distort_normalised, mask_grid


def prepare_images(
    pixels: Tensor,
    valid_height: int,
    colours: Tensor | None = None,
    grid: tuple[Tensor, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(B, K, H, W, 3) uint8 RGB to (B, K, 3, H, W); shorter types than float32 with a pixel's channels side by side.

    Args:
        valid_height: rows from there on are padding, and 0 in the result.
        colours: (B, K, 8), see `augment.Draws`; None: colours stay.
        grid: rows (B, H) and columns (B, W) that GridMask keeps; None: everything.
    """
    if pixels.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        kernel = importlib.import_module("sead_ray.training.augment_triton")
        statistics = constant([*MEAN_RGB, *STD_RGB], pixels.new_empty(0, dtype=torch.float32))
        return kernel.prepared(
            pixels, valid_height, statistics, colours, grid, dtype, channels_last=dtype != torch.float32
        )
    images = normalise(pixels, valid_height)
    if colours is not None:
        images = distort_normalised(images, colours, MEAN_RGB, STD_RGB)
    if grid is not None:
        images = mask_grid(images, *grid)
    return images.to(dtype)
