"""Linear layers whose gradients run in oneDNN on a CPU.

PyTorch multiplies float32 matrices with MKL, which leaves AVX-512 unused on processors that are not Intel's; oneDNN,
which comes with every CPU build, does not: half the time on an AMD EPYC. Its longer sums round more, though: forward,
where three frames of history add the errors up, it took VAD-Tiny from 2.6 to 7.6 times the noise of the original's own
kernels (10 are allowed), so the forward product stays with PyTorch. Elsewhere, and in any other precision, this is
`torch.nn.functional.linear`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., inputs) -> (..., outputs)."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad) and _fits_onednn(x, weight):
        return _OneDNNLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, grad_x, grad_weight, grad_bias = gradient.reshape(-1, gradient.shape[-1]), None, None, None
        if ctx.needs_input_grad[0]:
            grad_x = _multiply(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            grad_weight = _multiply(rows.t(), x.reshape(-1, x.shape[-1]).t())
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias


def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x times the transpose of `weight`."""
    return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), None, "none", [], "")


def _dense(x: Tensor) -> Tensor:
    """Itself if dense or the transpose of a dense matrix, else a copy: on a slice, oneDNN runs a reference loop."""
    return x if x.is_contiguous() or (x.dim() == 2 and x.t().is_contiguous()) else x.contiguous()


def _fits_onednn(x: Tensor, weight: Tensor) -> bool:
    return bool(
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and type(x) in (Tensor, nn.Parameter)  # no fake tensors, no tracing
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
