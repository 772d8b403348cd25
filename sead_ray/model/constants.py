"""Small tensors of fixed numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor


def constant(values: Sequence[Any], like: Tensor) -> Tensor:
    """`values` (nested to any depth) in the type of `like` and beside it.

    On a GPU each is copied there once and kept: copying it anew would make the host wait for all kernels before.
    """
    if like.device.type != "cuda":
        return like.new_tensor(values)
    return _kept(_frozen(values), like.dtype, like.device)


@cache  # a CUDA graph goes on reading what it once saw
def _kept(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # one that was made in inference mode could not be used in training
        return torch.tensor(values, dtype=dtype, device=device)


def _frozen(values: Any) -> Any:
    return tuple(map(_frozen, values)) if isinstance(values, list | tuple) else values
