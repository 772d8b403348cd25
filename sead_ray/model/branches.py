"""Small networks of VAD's heads."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sead_ray.model.linear import Linear

EPSILON = 1e-5  # mmdet: inverse_sigmoid
PRIOR = 0.01  # focal loss: initial probability of a class


class Branch(nn.Sequential):
    """Layers that compute in float32 under autocast, too: bfloat16 has 8 bits for a position on 60 m."""

    def forward(self, input: Tensor) -> Tensor:
        return in_float32(super().forward, input)


def in_float32(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`call(x)` outside of autocast."""
    if not autocasting(x):
        return call(x)
    with torch.autocast(x.device.type, enabled=False):
        return call(x.float())


def autocasting(x: Tensor) -> bool:
    """Whether operations on `x` are cast; never on devices without numbers."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def class_branch(dims: int, classes: int) -> nn.Sequential:
    branch = Branch(
        Linear(dims, dims),
        nn.LayerNorm(dims),
        nn.ReLU(),
        Linear(dims, dims),
        nn.LayerNorm(dims),
        nn.ReLU(),
        Linear(dims, classes),
    )
    nn.init.constant_(branch[-1].get_parameter("bias"), -math.log((1 - PRIOR) / PRIOR))
    return branch


def regression_branch(dims: int, outputs: int) -> nn.Sequential:
    return Branch(Linear(dims, dims), nn.ReLU(), Linear(dims, dims), nn.ReLU(), Linear(dims, outputs))


def inverse_sigmoid(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=EPSILON) / (1 - x).clamp(min=EPSILON))
