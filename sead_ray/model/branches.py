"""Small networks of VAD's heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sead_ray.model.linear import Linear

EPSILON = 1e-5  # mmdet: inverse_sigmoid
PRIOR = 0.01  # focal loss: initial probability of a class


def class_branch(dims: int, classes: int) -> nn.Sequential:
    branch = nn.Sequential(
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
    return nn.Sequential(Linear(dims, dims), nn.ReLU(), Linear(dims, dims), nn.ReLU(), Linear(dims, outputs))


def inverse_sigmoid(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=EPSILON) / (1 - x).clamp(min=EPSILON))
