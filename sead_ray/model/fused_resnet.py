"""mmdet's ResNet for inference on CUDA: bias, ReLU and residual sum inside cuDNN's convolution.

PyTorch adds a bias, and applies ReLU, in kernels of their own; each reads and writes a whole activation, which together
takes longer than the convolutions of a ResNet-50 do in half precision. Elsewhere the plain operations take their place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sead_ray.model.folding import FoldedBatchNorm2d


# Any: mmdet's modules name their parts as attributes, of which a type checker knows nothing.
def fuse_resnet(backbone: Any, dtype: torch.dtype) -> bool:
    """Replaces stem and bottleneck blocks whose batch norms are folded for good (`fold_for_good`), weights in `dtype`.

    Returns:
        False, and nothing is changed, where the network is of another kind or cuDNN refuses.
    """
    stages = [getattr(backbone, name) for name in getattr(backbone, "res_layers", [])]
    blocks = [block for stage in stages for block in stage]
    stem: Any = getattr(backbone, "conv1", None)
    if not blocks or not all(map(_can_fuse, blocks)) or not _is_folded(stem, getattr(backbone, "bn1", None)):
        return False
    if stem.weight.device.type == "cuda" and not _cudnn_fuses(stem.weight.device, dtype):
        return False
    for stage in stages:
        for index, block in enumerate(stage):
            stage[index] = FusedBottleneck(block, dtype)
    backbone.conv1, backbone.relu = FusedConv(stem, dtype), nn.Identity()
    return True


class FusedConv(nn.Module):
    """ReLU(convolution + bias + residual)."""

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, more_bias: Tensor | None = None) -> None:
        super().__init__()
        assert conv.bias is not None
        bias = conv.bias if more_bias is None else conv.bias + more_bias
        layout = torch.channels_last if conv.weight.device.type == "cuda" else torch.contiguous_format
        self.register_buffer("weight", conv.weight.detach().to(dtype, memory_format=layout))
        self.register_buffer("bias", bias.detach().to(dtype))
        # Any: `padding` may be a word elsewhere; mmdet gives numbers
        self.geometry: Any = (list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        x = x.to(weight.dtype)
        if x.device.type == "cuda":
            if residual is None:
                return torch.cudnn_convolution_relu(x, weight, bias, *self.geometry)
            return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *self.geometry)
        out = F.conv2d(x, weight, bias, *self.geometry)
        return F.relu(out if residual is None else out + residual)


class FusedBottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution and the shortcut; the shortcut's bias joins the last convolution's."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        shortcut = None if block.downsample is None else block.downsample[0]
        self.first, self.second = FusedConv(block.conv1, dtype), FusedConv(block.conv2, dtype)
        self.last = FusedConv(block.conv3, dtype, None if shortcut is None else shortcut.bias)
        self.shortcut = None
        if shortcut is not None:
            self.shortcut = shortcut.to(dtype)
            self.shortcut.bias = None

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.last(self.second(self.first(x)), residual)


def _can_fuse(block: Any) -> bool:
    if type(block).__name__ != "Bottleneck" or block.with_plugins or block.with_dcn:
        return False
    pairs = [(getattr(block, f"conv{index}", None), getattr(block, f"bn{index}", None)) for index in (1, 2, 3)]
    if block.downsample is not None:
        pairs.append(tuple(block.downsample) if len(block.downsample) == 2 else (None, None))
    return all(_is_folded(*pair) for pair in pairs)


def _is_folded(conv: Any, norm: Any) -> bool:
    return type(conv) is nn.Conv2d and conv.bias is not None and isinstance(norm, FoldedBatchNorm2d)


def _cudnn_fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this PyTorch and cuDNN take the type; tried, since neither says so."""
    conv = nn.Conv2d(8, 8, 1).to(device)
    x = torch.zeros(1, 8, 4, 4, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            fused = FusedConv(conv, dtype)
            fused(x, fused(x))
    except RuntimeError:
        return False
    return True
