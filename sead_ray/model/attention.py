"""The attention operations of VAD's transformers, batch first.

Shape legend: B clips, K cameras, Q queries, C channels. Each returns its residual sum (the query before the
positional term is added, plus the attended values).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sead_ray.model.deformable import init_linear_, init_offsets_, sample_deformable
from sead_ray.model.projection import CameraView


class FeedForward(nn.Module):
    """Linear, ReLU, Linear, with residual."""

    def __init__(self, dims: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden)
        self.fc2 = nn.Linear(hidden, dims)
        self.dropout = dropout
        init_linear_(self.fc1)
        init_linear_(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.dropout(F.relu(self.fc1(x)), self.dropout, self.training)
        return x + F.dropout(self.fc2(hidden), self.dropout, self.training)


class MultiheadAttention(nn.Module):
    """Scaled dot product attention with residual; positions join query and key, not the value."""

    def __init__(self, dims: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dims, dims))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dims))
        self.out_proj = nn.Linear(dims, dims)
        nn.init.xavier_uniform_(self.in_proj_weight)
        init_linear_(self.out_proj)

    def split(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, heads, n, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, first: int, count: int = 1) -> Tensor:
        """Input projections `first` ... of (query, key, value)."""
        dims = x.shape[-1]
        rows = slice(first * dims, (first + count) * dims)
        return F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        return residual + F.dropout(out, self.dropout, self.training)

    def forward(self, query: Tensor, query_pos: Tensor, memory: Tensor | None = None, memory_pos: Tensor | None = None):
        """Self attention without `memory` (B, n, C)."""
        if memory is None:
            memory = query
            q, k = self.project(query + query_pos, 0, 2).chunk(2, -1)
        else:
            q = self.project(query + query_pos, 0)
            k = self.project(memory if memory_pos is None else memory + memory_pos, 1)
        attended = F.scaled_dot_product_attention(
            self.split(q),
            self.split(k),
            self.split(self.project(memory, 2)),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.finish(attended, query)


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
        self.sampling_offsets = nn.Linear(query_dims, heads * groups * points * 2)
        self.attention_weights = nn.Linear(query_dims, heads * groups * points)
        self.value_proj = nn.Linear(dims, dims)
        self.output_proj = nn.Linear(dims, dims)
        init_offsets_(self.sampling_offsets, heads, groups, points)
        init_linear_(self.attention_weights, zero=True)
        init_linear_(self.value_proj)
        init_linear_(self.output_proj)

    def values(self, x: Tensor) -> Tensor:
        return self.value_proj(x).unflatten(-1, (self.layout[0], -1))

    def offsets_and_weights(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """(..., heads, groups, points, 2) pixels and (..., heads, groups, points)."""
        heads, groups, points = self.layout
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, groups, points, 2))
        logits = self.attention_weights(query).unflatten(-1, (heads, groups // self.softmax_over, -1))
        return offsets, logits.softmax(-1).unflatten(-1, (-1, points)).flatten(-3, -2)

    def finish(self, attended: Tensor, residual: Tensor) -> Tensor:
        return residual + F.dropout(self.output_proj(attended), self.dropout, self.training)


class TemporalSelfAttention(DeformableAttention):
    """BEVFormer's: each cell samples the previous BEV and the current queries; the two results are averaged."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float) -> None:
        super().__init__(dims, 2 * dims, heads, groups=2, points=points, softmax_over=1, dropout=dropout)

    def forward(
        self, query: Tensor, pos: Tensor, pair: tuple[Tensor, Tensor], reference_B2Q2: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        """`pair`: previous and current values, (B, Q, C) each; reference: cell centres 0..1 for each of the two."""
        batch = query.shape[0]
        offsets, weights = self.offsets_and_weights(torch.cat([pair[0], query + pos], -1))
        size = offsets.new_tensor([shape[1], shape[0]])
        reference = reference_B2Q2.transpose(1, 2)[:, :, None, :, None]  # (B, Q, 1, 2, 1, xy)
        locations = reference + offsets / size
        # Frames join the batch: (B, Q, A, 2, P, .) -> (B * 2, Q, A, 1, P, .)
        locations = locations.permute(0, 3, 1, 2, 4, 5).flatten(0, 1).unsqueeze(3)
        weights = weights.permute(0, 3, 1, 2, 4).flatten(0, 1).unsqueeze(3)
        value = self.values(torch.stack(pair, 1).flatten(0, 1))
        attended = sample_deformable(value, [shape], locations, weights)
        return self.finish(attended.unflatten(0, (batch, 2)).mean(1), query)


class SpatialCrossAttention(DeformableAttention):
    """BEVFormer's: each cell samples the cameras that see its pillar, around the projected pillar points.

    Offsets and weights depend on the query alone, so they are computed once per cell and then gathered by camera.
    """

    def __init__(self, dims: int, heads: int, levels: int, points: int, dropout: float) -> None:
        super().__init__(dims, dims, heads, groups=levels, points=points, softmax_over=levels, dropout=dropout)

    def forward(self, query: Tensor, features: Tensor, shapes: list[tuple[int, int]], view: CameraView) -> Tensor:
        """`features` (B * K, S, C): image features of all levels, one after the other."""
        heads, levels, points = self.layout
        images, slots, heights, _ = view.points.shape
        offsets, weights = self.offsets_and_weights(query)
        size = offsets.new_tensor([[w, h] for h, w in shapes]).view(levels, 1, 2)
        per_cell = torch.cat([(offsets / size).flatten(2), weights.flatten(2)], -1).flatten(0, 1)
        per_slot = per_cell.index_select(0, view.cell_of_slot).view(images, slots, -1)
        offsets, weights = per_slot.split([heads * levels * points * 2, heads * levels * points], -1)
        # Point p belongs to height p % Z.
        offsets = offsets.reshape(images, slots, heads, levels, points // heights, heights, 2)
        locations = (view.points.view(images, slots, 1, 1, 1, heights, 2) + offsets).flatten(4, 5)
        weights = weights.reshape(images, slots, heads, levels, points)
        attended = sample_deformable(self.values(features), shapes, locations, weights).flatten(0, 1)
        # One zero row for cells that fewer cameras see. A gather, not a scatter: the order of the sum is fixed.
        attended = torch.cat([attended, attended.new_zeros(1, attended.shape[1])])
        total = attended.index_select(0, view.slots_of_cell[0])
        for index in view.slots_of_cell[1:]:
            total = total + attended.index_select(0, index)
        return self.finish(total.view(query.shape) / view.cameras_of_cell, query)


class BEVCrossAttention(DeformableAttention):
    """A decoder query samples the BEV around its reference point (Deformable DETR)."""

    def __init__(self, dims: int, heads: int, points: int, dropout: float) -> None:
        super().__init__(dims, dims, heads, groups=1, points=points, softmax_over=1, dropout=dropout)

    def forward(self, query: Tensor, pos: Tensor, bev: Tensor, reference_BQ2: Tensor, shape: tuple[int, int]) -> Tensor:
        offsets, weights = self.offsets_and_weights(query + pos)
        locations = reference_BQ2[:, :, None, None, None] + offsets / offsets.new_tensor([shape[1], shape[0]])
        return self.finish(sample_deformable(self.values(bev), [shape], locations, weights), query)
