"""Agent and map decoders: queries that attend to each other and to the BEV, with iterative refinement.

Shape legend: B clips, N agent queries, M map instances, P points of an instance, C channels, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sead_ray.model.attention import BEVCrossAttention, FeedForward, MultiheadAttention
from sead_ray.model.branches import class_branch, in_float32, inverse_sigmoid, regression_branch
from sead_ray.model.constants import constant
from sead_ray.model.deformable import init_linear_
from sead_ray.model.linear import Linear
from sead_ray.model.presets import VADSize

BOX_CODE = 10  # cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy


@dataclass(frozen=True)
class Agents:
    """features (B, N, C) of the last layer; class_logits (L, B, N, 10); boxes (L, B, N, 10) in metres;
    centers (B, N, 2) normalised, detached."""

    features: Tensor
    class_logits: Tensor
    boxes: Tensor
    centers: Tensor


@dataclass(frozen=True)
class Maps:
    """features (B, M, P, C) of the last layer; class_logits (L, B, M, 3); boxes (L, B, M, 4) cx, cy, w, h and
    points (L, B, M, P, 2), normalised."""

    features: Tensor
    class_logits: Tensor
    boxes: Tensor
    points: Tensor


class DecoderLayer(nn.Module):
    """Self attention, deformable attention to the BEV, feed forward; post-norm."""

    def __init__(self, size: VADSize) -> None:
        super().__init__()
        dims, heads, dropout = size.embed_dims, size.heads, size.dropout
        self.self_attention = MultiheadAttention(dims, heads, dropout)
        self.cross_attention = BEVCrossAttention(dims, heads, size.decoder_points, dropout)
        self.ffn = FeedForward(dims, size.ffn_dims, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dims) for _ in range(3))

    def forward(self, query: Tensor, pos: Tensor, bev: Tensor, reference: Tensor, grid: tuple[int, int]) -> Tensor:
        query = self.norms[0](self.self_attention(query, pos))
        query = self.norms[1](self.cross_attention(query, pos, bev, reference, grid))
        return self.norms[2](self.ffn(query))


class AgentDecoder(nn.Module):
    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        dims, layers = size.embed_dims, range(size.decoder_layers)
        self.query_embedding = nn.Embedding(size.agent_queries, 2 * dims)
        self.reference_points = Linear(dims, 3)
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in layers)
        self.cls_branches = nn.ModuleList(class_branch(dims, size.agent_classes) for _ in layers)
        self.reg_branches = nn.ModuleList(regression_branch(dims, BOX_CODE) for _ in layers)
        init_linear_(self.reference_points)

    def forward(self, bev: Tensor) -> Agents:
        grid = (self.size.bev_h, self.size.bev_w)
        pos, query = self.query_embedding.weight.expand(bev.shape[0], -1, -1).chunk(2, -1)
        reference = in_float32(self.reference_points, pos).sigmoid()
        logits, boxes = [], []
        for layer, classify, regress in zip(self.layers, self.cls_branches, self.reg_branches, strict=True):
            query = layer(query, pos, bev, reference[..., :2], grid)
            code = regress(query)
            # The refinement reads z from channel 4 of the code (VAD: CustomDetectionTransformerDecoder).
            center = (torch.cat([code[..., :2], code[..., 4:5]], -1) + inverse_sigmoid(reference)).sigmoid()
            reference = center.detach()
            logits.append(classify(query))
            boxes.append(self._metric(center, code))
        return Agents(query, torch.stack(logits), torch.stack(boxes), reference[..., :2])

    def _metric(self, center: Tensor, code: Tensor) -> Tensor:
        low = constant(self.size.pc_range[:3], center)
        span = constant(self.size.pc_range[3:], center) - low
        xyz = center * span + low
        return torch.cat([xyz[..., :2], code[..., 2:4], xyz[..., 2:], code[..., 5:]], -1)


class MapDecoder(nn.Module):
    """One query per point: the sum of a point's and an instance's embedding, instance-major."""

    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        dims, layers = size.embed_dims, range(size.decoder_layers)
        self.instance_embedding = nn.Embedding(size.map_instances, 2 * dims)
        self.point_embedding = nn.Embedding(size.map_points, 2 * dims)
        self.reference_points = Linear(dims, 2)
        self.layers = nn.ModuleList(DecoderLayer(size) for _ in layers)
        self.cls_branches = nn.ModuleList(class_branch(dims, size.map_classes) for _ in layers)
        self.reg_branches = nn.ModuleList(regression_branch(dims, 2) for _ in layers)
        init_linear_(self.reference_points)

    def forward(self, bev: Tensor) -> Maps:
        size, grid = self.size, (self.size.bev_h, self.size.bev_w)
        embedding = (self.instance_embedding.weight.unsqueeze(1) + self.point_embedding.weight).flatten(0, 1)
        pos, query = embedding.expand(bev.shape[0], -1, -1).chunk(2, -1)
        reference = in_float32(self.reference_points, pos).sigmoid()
        logits, points = [], []
        for layer, classify, regress in zip(self.layers, self.cls_branches, self.reg_branches, strict=True):
            query = layer(query, pos, bev, reference, grid)
            xy = (regress(query) + inverse_sigmoid(reference)).sigmoid()
            reference = xy.detach()
            logits.append(classify(query.unflatten(1, (size.map_instances, size.map_points)).mean(2)))
            points.append(xy)
        lines = torch.stack(points).unflatten(2, (size.map_instances, size.map_points))
        features = query.unflatten(1, (size.map_instances, size.map_points))
        return Maps(features, torch.stack(logits), bounding_boxes(lines), lines)


def bounding_boxes(points: Tensor) -> Tensor:
    """(..., P, 2) -> (..., 4) cx, cy, w, h."""
    low, high = points.amin(-2), points.amax(-2)
    return torch.cat([(low + high) / 2, high - low], -1)
