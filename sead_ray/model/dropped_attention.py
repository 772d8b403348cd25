"""Attention with dropout for training on a CPU, where PyTorch's fused operation has none.

One head at a time: its weights (n x m) stay in the cache, and only the coins, a byte each, are kept for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sead_ray.model.dropout import RESOLUTION, draw_dropped


def dropped_attention(q: Tensor, k: Tensor, v: Tensor, probability: float) -> Tensor:
    """(B, A, n, D), (B, A, m, D), (B, A, m, D) -> (B, A, n, D): dropout(softmax(q k^T / sqrt(D))) v."""
    cut = round(probability * RESOLUTION)
    dropped = draw_dropped(torch.Size((*q.shape[:3], k.shape[2])), cut)
    return _DroppedAttention.apply(q, k, v * (RESOLUTION / (RESOLUTION - cut)), dropped)


class _DroppedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropped: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v, dropped)
        out = torch.empty_like(q)
        for index in _heads(q):
            out[index] = _weights(q[index], k[index]).masked_fill_(dropped[index], 0.0) @ v[index]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, dropped = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        scale = q.shape[-1] ** -0.5
        for index in _heads(q):
            weights = _weights(q[index], k[index])
            slope = (gradient[index] @ v[index].t()).masked_fill_(dropped[index], 0.0)
            slope -= (slope * weights).sum(-1, keepdim=True)
            slope *= weights
            grad_q[index] = slope @ k[index] * scale
            grad_k[index] = slope.t() @ q[index] * scale
            grad_v[index] = weights.masked_fill_(dropped[index], 0.0).t() @ gradient[index]
        return grad_q, grad_k, grad_v, None


def _heads(q: Tensor) -> list[tuple[int, int]]:
    return [(sample, head) for sample in range(q.shape[0]) for head in range(q.shape[1])]


def _weights(q: Tensor, k: Tensor) -> Tensor:
    logits = (q * q.shape[-1] ** -0.5) @ k.t()
    return torch.softmax(logits, -1)
