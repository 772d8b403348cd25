"""BEV encoder: image features and the previous BEV to the current BEV (BEVFormer as VAD uses it).

Shape legend: B clips, K cameras, Q BEV cells (row-major; row 0 is the rear, column 0 the left), C channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sead_ray.model.attention import FeedForward, SpatialCrossAttention, TemporalSelfAttention
from sead_ray.model.constants import constant
from sead_ray.model.deformable import init_linear_
from sead_ray.model.linear import Linear
from sead_ray.model.presets import VADSize
from sead_ray.model.projection import CameraView, pillar_points_m, view_cameras
from sead_ray.model.rotate import rotate_bev

# Typical magnitudes of the 18 CAN values; absolute orientation (3-6, 16) says nothing about the lidar frame.
CAN_SCALE = (0.2, 0.2, 0, 0, 0, 0, 0, 0.2, 0.2, 0, 1, 1, 1, 0.1, 0.1, 0.1, 0, 0.1)


class EncoderLayer(nn.Module):
    def __init__(self, size: VADSize) -> None:
        super().__init__()
        dims, heads, dropout = size.embed_dims, size.heads, size.dropout
        self.temporal = TemporalSelfAttention(dims, heads, size.temporal_points, dropout)
        self.spatial = SpatialCrossAttention(dims, heads, size.feature_levels, size.spatial_points, dropout)
        self.ffn = FeedForward(dims, size.ffn_dims, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dims) for _ in range(3))


class BEVEncoder(nn.Module):
    """Camera features (B * K, C, h, w) per level to the BEV (B, Q, C)."""

    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        dims = size.embed_dims
        self.bev_embedding = nn.Embedding(size.bev_cells, dims)
        self.row_embed = nn.Embedding(size.bev_h, dims // 2)
        self.col_embed = nn.Embedding(size.bev_w, dims // 2)
        self.level_embeds = nn.Parameter(torch.randn(size.level_embed_rows, dims))
        self.cams_embeds = nn.Parameter(torch.randn(size.num_cameras, dims))
        self.can_bus_mlp = nn.Sequential(
            Linear(size.can_bus_dims, dims // 2), nn.ReLU(), Linear(dims // 2, dims), nn.ReLU()
        )
        self.can_bus_mlp.add_module("norm", nn.LayerNorm(dims))
        self.layers = nn.ModuleList(EncoderLayer(size) for _ in range(size.encoder_layers))
        for index in (0, 2):
            init_linear_(cast(nn.Linear, self.can_bus_mlp[index]))
        nn.init.uniform_(self.row_embed.weight)  # mmdet: LearnedPositionalEncoding
        nn.init.uniform_(self.col_embed.weight)

    def forward(
        self,
        features: list[Tensor],
        lidar2img: Tensor,
        can_bus: Tensor,
        image_hw: tuple[int, int],
        history: Tensor | None,
        has_history: Tensor | None = None,
    ) -> Tensor:
        size = self.size
        tokens, shapes = self._tokens(features, lidar2img.shape[0])
        points_m = pillar_points_m(size.pc_range, size.bev_h, size.bev_w, size.pillar_points, lidar2img)
        view = view_cameras(points_m, size.pillar_points, lidar2img, image_hw)
        query = self.bev_embedding.weight + self.can_bus_mlp(scale_can_bus(can_bus, size)).unsqueeze(1)
        previous = None if history is None else self._align(history, can_bus)
        return self._layers(query, tokens, shapes, view, self._reference(can_bus), previous, has_history)

    def _layers(
        self,
        query: Tensor,
        tokens: Tensor,
        shapes: list[tuple[int, int]],
        view: CameraView,
        reference: Tensor,
        previous: Tensor | None,
        has_history: Tensor | None,
    ) -> Tensor:
        pos = self.position()
        grid = (self.size.bev_h, self.size.bev_w)
        # With history the "current" half is the encoder's input in every layer (VAD: stacked before the loop);
        # without, each layer attends to its own query twice.
        first = query
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            pair = (query, query) if previous is None else (previous, first)
            if has_history is not None:
                has = has_history.view(-1, 1, 1)
                pair = (torch.where(has, pair[0], query), torch.where(has, pair[1], query))
            query = layer.norms[0](layer.temporal(query, pos, pair, reference, grid))
            query = layer.norms[1](layer.spatial(query, tokens, shapes, view))
            query = layer.norms[2](layer.ffn(query))
        return query

    def position(self) -> Tensor:
        """(Q, C): the column's embedding, then the row's."""
        columns = self.col_embed.weight.unsqueeze(0).expand(self.size.bev_h, -1, -1)
        rows = self.row_embed.weight.unsqueeze(1).expand(-1, self.size.bev_w, -1)
        return torch.cat([columns, rows], -1).flatten(0, 1)

    def _tokens(self, features: list[Tensor], batch: int) -> tuple[Tensor, list[tuple[int, int]]]:
        """(B * K, all levels' pixels, C), with camera and level embeddings."""
        shapes = [(int(f.shape[-2]), int(f.shape[-1])) for f in features]
        cameras = self.cams_embeds.repeat(batch, 1).unsqueeze(1)
        levels = [f.flatten(2).transpose(1, 2) + cameras + self.level_embeds[i] for i, f in enumerate(features)]
        return torch.cat(levels, 1), shapes

    def _align(self, history: Tensor, can_bus: Tensor) -> Tensor:
        """The previous BEV turned into the current heading; a new tensor."""
        size = self.size
        center = (float(size.rotate_center[0]), float(size.rotate_center[1])) if size.rotate_center else None
        return rotate_bev(history, can_bus[:, 17], size.bev_h, size.bev_w, center)

    def _reference(self, can_bus: Tensor) -> Tensor:
        """(B, 2, Q, 2) x, y in 0..1 where each cell looks in the previous and in the current BEV."""
        size = self.size
        y = (torch.arange(size.bev_h, device=can_bus.device, dtype=torch.float32) + 0.5) / size.bev_h
        x = (torch.arange(size.bev_w, device=can_bus.device, dtype=torch.float32) + 0.5) / size.bev_w
        y, x = torch.meshgrid(y, x, indexing="ij")
        here = torch.stack([x, y], -1).flatten(0, 1).unsqueeze(0)
        before = here + bev_shift(can_bus, size.extent_m).unsqueeze(1)
        # Upstream shifts its one reference tensor in place, so the current frame's moves too.
        current = before if size.parity_quirks else here.expand_as(before)
        return torch.stack([before, current], 1)


def bev_shift(can_bus: Tensor, extent_m: tuple[float, float]) -> Tensor:
    """(B, 2) ego translation since the frame before along lidar x, y, in units of the BEV's side."""
    delta_x, delta_y = can_bus[:, 0].double(), can_bus[:, 1].double()
    length = torch.hypot(delta_x, delta_y)
    angle = can_bus[:, 16].double() - torch.atan2(delta_y, delta_x)
    return torch.stack([length * angle.sin() / extent_m[0], length * angle.cos() / extent_m[1]], -1).float()


def scale_can_bus(can_bus: Tensor, size: VADSize) -> Tensor:
    """The CAN vector as the network reads it, float32: raw under `parity_quirks`, else scaled, its angle wrapped."""
    if size.parity_quirks:
        return can_bus.float()
    forward = bev_shift(can_bus, (1.0, 1.0))  # metres in lidar axes instead of global ones
    turn = torch.remainder(can_bus[:, 17:18] + 180.0, 360.0) - 180.0
    local = torch.cat([forward, can_bus[:, 2:17], turn], -1)
    return (local * constant(CAN_SCALE, can_bus)).float()
