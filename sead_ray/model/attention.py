"""The attention operations of VAD's transformers, batch first.

Shape legend: B clips, K cameras, Q queries, C channels. Each returns its residual sum (the query before the
positional term is added, plus the attended values).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sead_ray.model.deformable import Shapes, init_linear_, init_offsets_, sample_images
from sead_ray.model.dropout import draws_here, dropout
from sead_ray.model.dropped_attention import dropped_attention
from sead_ray.model.linear import Linear, linear
from sead_ray.model.projection import CameraView


class FeedForward(nn.Module):
    """Linear, ReLU, Linear, with residual."""

    def __init__(self, dims: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = Linear(dims, hidden)
        self.fc2 = Linear(hidden, dims)
        self.dropout = dropout
        init_linear_(self.fc1)
        init_linear_(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = dropout(F.relu(self.fc1(x)), self.dropout, self.training)
        return x + dropout(self.fc2(hidden), self.dropout, self.training)


class MultiheadAttention(nn.Module):
    """Scaled dot product attention with residual; positions join query and key, not the value."""

    def __init__(self, dims: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        init_linear_(self.out_proj)

    def split(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, heads, n, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, first: int, count: int = 1) -> Tensor:
        """Input projections `first` ... of (query, key, value)."""
        dims = x.shape[-1]
        rows = slice(first * dims, (first + count) * dims)
        return linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        return residual + dropout(out, self.dropout, self.training)

    def forward(self, query: Tensor, query_pos: Tensor, memory: Tensor | None = None, memory_pos: Tensor | None = None):
        """Self attention without `memory` (B, n, C)."""
        if memory is None:
            memory = query
            q, k = self.project(query + query_pos, 0, 2).chunk(2, -1)
        else:
            q = self.project(query + query_pos, 0)
            k = self.project(memory if memory_pos is None else memory + memory_pos, 1)
        q, k, v = self.split(q), self.split(k), self.split(self.project(memory, 2))
        if self.training and draws_here(q, self.dropout):
            return self.finish(dropped_attention(q, k, v, self.dropout), query)
        rate = self.dropout if self.training else 0.0
        return self.finish(F.scaled_dot_product_attention(q, k, v, dropout_p=rate), query)


class DeformableAttention(nn.Module):
    """Projections of deformable attention.

    `groups` is levels, or frames x levels; offsets and weights are laid out (head, group, point). The softmax runs
    over `softmax_over` consecutive groups and their points.
    """

    def __init__(
        self, dims: int, query_dims: int, heads: int, groups: int, points: int, softmax_over: int, dropout: float
    ) -> None:
        super().__init__()
        self.layout = (heads, groups, points)
        self.softmax_over = softmax_over
        self.dropout = dropout
        self.sampling_offsets = Linear(query_dims, heads * groups * points * 2)
        self.attention_weights = Linear(query_dims, heads * groups * points)
        self.value_proj = Linear(dims, dims)
        self.output_proj = Linear(dims, dims)
        init_offsets_(self.sampling_offsets, heads, groups, points)
        init_linear_(self.attention_weights, zero=True)
        init_linear_(self.value_proj)
        init_linear_(self.output_proj)

    def values(self, x: Tensor) -> Tensor:
        return self.value_proj(x).unflatten(-1, (self.layout[0], -1))

    def offsets_and_weights(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(..., heads, groups, points, 2) pixels and (..., heads, groups, points)."""
        weight, bias = self._joined()
        return self._split(linear(query, weight, bias))

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Offsets and weights as one projection, which reads the query once."""
        layers = (self.sampling_offsets, self.attention_weights)
        return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        heads, groups, points = self.layout
        offsets, logits = projected.split([heads * groups * points * 2, heads * groups * points], -1)
        weights = logits.unflatten(-1, (heads, groups // self.softmax_over, -1)).softmax(-1)
        return offsets.unflatten(-1, (heads, groups, points, 2)), weights.reshape(*weights.shape[:-2], groups, points)

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        return residual + dropout(self.output_proj(attended), self.dropout, self.training)


class TemporalSelfAttention(DeformableAttention):
    """BEVFormer's: each cell samples the previous BEV and the current queries; the two results are averaged."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float) -> None:
        super().__init__(dims, 2 * dims, heads, groups=2, points=points, softmax_over=1, dropout=dropout)

    def forward(
        self, query: Tensor, pos: Tensor, pair: tuple[Tensor, Tensor], reference_B2Q2: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """`pair`: previous and current values, (B, Q, C) each; reference: cell centres 0..1 for each of the two."""
        previous, current = pair
        batch, dims = query.shape[0], query.shape[-1]
        weight, bias = self._joined()  # of the previous value, then of the query
        projected = linear(previous, weight[:, :dims], bias) + linear(query + pos, weight[:, dims:])
        offsets, weights = self._split(projected)
        places = reference_B2Q2.transpose(1, 2).unsqueeze(3)
        image = torch.arange(2 * batch, device=query.device).view(2, batch, 1).permute(1, 2, 0)
        if previous is current:
            value, image = self.values(current), image % batch
        else:
            value = torch.cat([self.values(previous), self.values(current)])
        attended = sample_images(value, [shape], image, places, offsets.unsqueeze(4), weights.unsqueeze(4) * 0.5)
        return self.finish(attended, query)


class SpatialCrossAttention(DeformableAttention):
    """BEVFormer's: each cell samples the cameras that see its pillar, around the projected pillar points.

    Offsets and weights depend on the query alone, so they are computed once per cell; the mean over cameras is part
    of the weights.
    """

    def __init__(self, dims: int, heads: int, levels: int, points: int, dropout: float) -> None:
        super().__init__(dims, dims, heads, groups=levels, points=points, softmax_over=levels, dropout=dropout)

    def forward(self, query: Tensor, features: Tensor, shapes: Shapes, view: CameraView) -> Tensor:
        """`features` (B * K, S, C): image features of all levels, one after the other."""
        offsets, weights = (part.unsqueeze(3) for part in self.offsets_and_weights(query))  # (B, Q, A, 1, L, P, .)
        values = self.values(features)
        return self.finish(sample_images(values, shapes, view.image, view.pixels, offsets, weights, view.share), query)


class BEVCrossAttention(DeformableAttention):
    """A decoder query samples the BEV around its reference point (Deformable DETR)."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float) -> None:
        super().__init__(dims, dims, heads, groups=1, points=points, softmax_over=1, dropout=dropout)

    def forward(self, query: Tensor, pos: Tensor, bev: Tensor, reference_BQ2: Tensor, shape: tuple[int, int]) -> Tensor:
        offsets, weights = (part.unsqueeze(3) for part in self.offsets_and_weights(query + pos))
        image = torch.arange(len(bev), device=bev.device).view(-1, 1, 1)
        places = reference_BQ2[:, :, None, None]
        return self.finish(sample_images(self.values(bev), [shape], image, places, offsets, weights), query)
