"""Batch norms that do not train, folded into the convolution before them.

In eval mode a batch norm multiplies and shifts each channel, so the convolution can do both: one pass over the
activations less, forward and backward. The folded weight is computed in every call, so that gradients reach the
convolution's own weight and a loaded checkpoint needs no preparation; names and shapes of the state stay as they were.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn


class FoldingConv2d(nn.Conv2d):
    """A convolution that applies the batch norm after it while that one is in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        norm = cast("FoldedBatchNorm2d", self.__dict__["followed_by"])
        if norm.training:
            return super().forward(input)
        scale, shift = norm.scale_and_shift()
        if self.bias is not None:
            shift = shift + self.bias * scale
        return self._conv_forward(input, self.weight * scale.view(-1, 1, 1, 1), shift)


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose convolution does its work in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if self.training else input

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """(C,) each: what eval mode multiplies a channel with and then adds."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def fold(conv: nn.Module, norm: nn.Module) -> None:
    """Lets `conv` do the work of `norm`, which must be the only reader of its output; other kinds stay as they are.

    A conversion that replaces the norm (`convert_sync_batchnorm`) must come before.
    """
    if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or not norm.track_running_stats:
        return
    if not norm.affine:
        return
    conv.__class__, norm.__class__ = FoldingConv2d, FoldedBatchNorm2d
    conv.__dict__["followed_by"] = norm  # beside the submodules, so that the state's names stay


def fold_resnet(backbone: nn.Module) -> None:
    """Pairs up the convolutions and batch norms of mmdet's ResNet: conv1 and bn1, conv2 and bn2, ..., downsample."""
    for module in backbone.modules():
        children = dict(module.named_children())
        for name, conv in children.items():
            if name.startswith("conv") and f"bn{name[4:]}" in children:
                fold(conv, children[f"bn{name[4:]}"])
        downsample = children.get("downsample")
        if isinstance(downsample, nn.Sequential) and len(downsample) == 2:
            fold(downsample[0], downsample[1])


@torch.no_grad()
def fold_for_good(network: nn.Module) -> None:
    """Writes the batch norms into their convolutions, which become plain ones with a bias; for inference only.

    Names of the state change, and nothing that is loaded or trained afterwards reaches the convolutions.
    """
    for module in list(network.modules()):
        if isinstance(module, FoldingConv2d):
            scale, shift = module.__dict__.pop("followed_by").scale_and_shift()
            if module.bias is not None:
                shift = shift + module.bias * scale
            module.weight = nn.Parameter(module.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
            module.bias = nn.Parameter(shift.clone(), requires_grad=False)
            module.__class__ = nn.Conv2d


@contextmanager
def unfolded(network: nn.Module) -> Generator[None, None, None]:
    """The network as it came, convolutions and batch norms apart; for comparison."""
    pairs = [module for module in network.modules() if isinstance(module, FoldingConv2d | FoldedBatchNorm2d)]
    kinds = [type(module) for module in pairs]
    for module in pairs:
        module.__class__ = nn.Conv2d if isinstance(module, FoldingConv2d) else nn.BatchNorm2d
    try:
        yield
    finally:
        for module, kind in zip(pairs, kinds):
            module.__class__ = kind
