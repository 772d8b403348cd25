"""Optimiser and learning-rate schedule (SEAD sec. 4.1; VAD's published configuration)."""

from __future__ import annotations

import math

import torch
from torch import nn

from sead_ray.config import TrainConfig

BACKBONE = "backbone"  # the attribute of `model.vad.VAD` that holds the image backbone
WARMUP_SHARE = 0.05  # at most this share of a run warms up, so that short runs train too


def parameter_groups(model: nn.Module, learning_rate: float, backbone_mult: float) -> list[dict]:
    """Trainable parameters in two groups: the image backbone's at `learning_rate * backbone_mult`, and the rest.

    A group without a parameter is left out. DDP's `module.` prefix is ignored.
    """
    backbone, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            in_backbone = name.removeprefix("module.").startswith(f"{BACKBONE}.")
            (backbone if in_backbone else rest).append(parameter)
    groups = [
        {"params": rest, "lr": learning_rate, "name": "head"},
        {"params": backbone, "lr": learning_rate * backbone_mult, "name": "backbone"},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: TrainConfig, pretrained_backbone: bool) -> torch.optim.AdamW:
    """AdamW. A backbone that starts at random learns at the full rate; an ImageNet one slower (VAD: lr_mult 0.1)."""
    mult = config.backbone_learning_rate_mult if pretrained_backbone else 1.0
    groups = parameter_groups(model, config.learning_rate, mult)
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=on_gpu or None)


def warmup_steps(total_steps: int, config: TrainConfig) -> int:
    """The smaller of the configured warm-up and 5 % of the run."""
    return min(config.warmup_steps, int(WARMUP_SHARE * total_steps))


def learning_rate_factor(step: int, total_steps: int, config: TrainConfig) -> float:
    """What the base learning rate is multiplied with at optimiser step `step` (from 0).

    Half a cosine from 1 at step 0 to `min_learning_rate_ratio` at the last one; during the warm-up it is multiplied
    by a line from `warmup_ratio` to 1, as in mmcv. Steps after the last keep the minimum.
    """
    progress = min(max(step, 0) / max(total_steps - 1, 1), 1.0)
    floor = config.min_learning_rate_ratio
    factor = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    warm = warmup_steps(total_steps, config)
    if step < warm:
        factor *= config.warmup_ratio + (1 - config.warmup_ratio) * step / warm
    return factor


def build_scheduler(
    optimizer: torch.optim.Optimizer, total_steps: int, config: TrainConfig
) -> torch.optim.lr_scheduler.LambdaLR:
    """`learning_rate_factor` on every group; `.step()` once after each optimiser step."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, total_steps, config))
