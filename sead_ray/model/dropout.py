"""Dropout whose coins on a CPU are 16 bits of a random word each: a sixth of the time of one Bernoulli draw each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RESOLUTION = 1 << 16


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """`F.dropout` up to the draw; on a CPU `probability` is rounded to 1/65536, and what is kept is scaled by that."""
    if not training or probability == 0:
        return x
    if not draws_here(x, probability):
        return F.dropout(x, probability)
    cut = round(probability * RESOLUTION)
    return x.masked_fill(draw_dropped(x.shape, cut), 0.0) * (RESOLUTION / (RESOLUTION - cut))


def draws_here(x: Tensor, probability: float) -> bool:
    """Whether the coins for `x` come from this module."""
    return (
        x.device.type == "cpu"
        and type(x) is Tensor
        and 0 < round(probability * RESOLUTION) < RESOLUTION
        and not torch.compiler.is_compiling()
    )


def draw_dropped(shape: torch.Size, cut: int) -> Tensor:
    """True with probability `cut` / 65536."""
    count = shape.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    return (words.view(torch.int16)[:count] < cut - RESOLUTION // 2).view(shape)
