"""Motion prediction from agent and map queries.

Shape legend: B clips, N agents, R modes, M map instances, P points, C channels, T future steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sead_ray.model.attention import FeedForward, MultiheadAttention
from sead_ray.model.branches import class_branch, regression_branch
from sead_ray.model.constants import constant
from sead_ray.model.decoder import Agents, Maps
from sead_ray.model.deformable import init_linear_
from sead_ray.model.dropout import dropout
from sead_ray.model.linear import Linear, linear
from sead_ray.model.presets import VADSize


class _PostNormLayer(nn.Module):
    """The parts of a layer of attention and feed forward; how queries attend is the subclass's."""

    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.attention = MultiheadAttention(size.embed_dims, size.heads, size.dropout)
        self.ffn = FeedForward(size.embed_dims, size.ffn_dims, size.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(size.embed_dims) for _ in range(2))

    def finish(self, attended: Tensor) -> Tensor:
        return self.norms[1](self.ffn(self.norms[0](attended)))


class InteractionLayer(_PostNormLayer):
    """Attention of queries to others, feed forward; post-norm."""

    def forward(
        self, query: Tensor, query_pos: Tensor, memory: Tensor | None = None, memory_pos: Tensor | None = None
    ) -> Tensor:
        return self.finish(self.attention(query, query_pos, memory, memory_pos))


class NearMapLayer(_PostNormLayer):
    """Each agent's modes attend to the map instances near it, at positions relative to it, and to one empty key.

    Upstream repeats all keys for each of B x N x R queries. Positions enter keys linearly, so an agent's own
    position adds the same number to the logits of all its real keys; adding its negative to the one empty key
    gives the same softmax, and the keys are shared by all agents.
    """

    def forward(
        self, query: Tensor, agent_pos: Tensor, lanes: Tensor, lane_pos: Tensor, near: Tensor, pos_mlp: nn.Linear
    ) -> Tensor:
        """query (B, N, R, C); agent_pos (B, N, 2); lanes (B, M, C); lane_pos (B, M, 2); near (B, N, M) bool."""
        attention = self.attention
        flat = query.flatten(1, 2)
        modes, heads = query.shape[2], attention.heads
        dims = query.shape[-1]
        key_weight = attention.in_proj_weight[dims : 2 * dims]
        q = attention.split(attention.project(flat + pos_mlp.bias, 0)) * (dims // heads) ** -0.5
        # The empty key stands at (1, 1); its content is zero.
        empty_pos = pos_mlp(lane_pos.new_ones(lane_pos.shape[0], 1, 2))
        key_pos = torch.cat([pos_mlp(lane_pos), empty_pos], 1)
        content = F.pad(lanes, (0, 0, 0, 1))
        key = attention.split(attention.project(content + key_pos, 1))
        value = attention.split(attention.project(content, 2))
        own = attention.split(linear(linear(agent_pos, pos_mlp.weight), key_weight))  # (B, A, N, C / A)
        logits = q @ key.transpose(-1, -2)
        own_logit = (q.unflatten(2, (-1, modes)) * own.unsqueeze(3)).sum(-1).flatten(2)
        hidden = ~near.repeat_interleave(modes, 1).unsqueeze(1)
        real = logits[..., :-1].masked_fill(hidden, float("-inf"))
        logits = torch.cat([real, logits[..., -1:] + own_logit.unsqueeze(-1)], -1)
        weights = dropout(logits.softmax(-1), attention.dropout, self.training)
        return self.finish(attention.finish(weights @ value, flat)).view(query.shape)


class LaneEncoder(nn.Module):
    """VectorNet's subgraph: point features to one feature per instance, (B, M, P, C) -> (B, M, C)."""

    def __init__(self, dims: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(Linear(dims, dims // 2), nn.LayerNorm(dims // 2), nn.ReLU()) for _ in range(layers)
        )
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.get_parameter("0.weight"))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x = torch.cat([x, x.amax(-2, keepdim=True).expand_as(x)], -1)
        return x.amax(-2)


@dataclass(frozen=True)
class Motion:
    """features (B, N, R, 2 C); offsets (B, N, R, 2 T); logits (B, N, R); lanes (B, M, C) encoded map instances;
    lane_pos (B, M, 2) normalised position of each instance's nearest point, detached."""

    features: Tensor
    offsets: Tensor
    logits: Tensor
    lanes: Tensor
    lane_pos: Tensor


class MotionHead(nn.Module):
    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        dims = size.embed_dims
        self.mode_query = nn.Embedding(size.modes, dims)
        self.agent_layer = InteractionLayer(size)
        self.agent_pos = Linear(2, dims)
        self.lane_encoder = LaneEncoder(dims, size.lane_layers)
        self.map_layer = NearMapLayer(size)
        self.map_pos = Linear(2, dims)
        self.traj_branches = nn.ModuleList([regression_branch(2 * dims, 2 * size.future_steps)])
        self.traj_cls_branches = nn.ModuleList([class_branch(2 * dims, 1)])
        nn.init.orthogonal_(self.mode_query.weight)
        init_linear_(self.agent_pos)
        init_linear_(self.map_pos)

    def forward(self, agents: Agents, maps: Maps) -> Motion:
        batch, count, dims = agents.features.shape
        query = (agents.features.unsqueeze(2) + self.mode_query.weight).flatten(1, 2)
        pos = self.agent_pos(agents.centers).repeat_interleave(self.size.modes, 1)
        query = self.agent_layer(query, pos).view(batch, count, self.size.modes, dims)
        lanes = self.lane_encoder(maps.features)
        lane_pos = nearest_points(maps.points[-1].detach(), ego_position(self.size))
        scores = maps.class_logits[-1].detach().amax(-1).sigmoid()
        near = torch.linalg.vector_norm(lane_pos.unsqueeze(1) - agents.centers.unsqueeze(2), dim=-1)
        near = (near <= self.size.map_distance) & (scores > self.size.map_threshold).unsqueeze(1)
        attended = self.map_layer(query, agents.centers, lanes, lane_pos, near, self.map_pos)
        features = torch.cat([query, attended], -1)
        logits = self.traj_cls_branches[0](features).squeeze(-1)
        return Motion(features, self.traj_branches[0](features), logits, lanes, lane_pos)


def ego_position(size: VADSize) -> tuple[float, float]:
    """The ego's place in the normalised BEV; upstream takes (0, 0), which is the rear left corner."""
    if size.parity_quirks:
        return 0.0, 0.0
    x_span, y_span = size.extent_m
    return -size.pc_range[0] / x_span, -size.pc_range[1] / y_span


def nearest_points(points_BMP2: Tensor, place: tuple[float, float]) -> Tensor:
    """(B, M, 2): of each instance the point nearest to `place`."""
    distance = torch.linalg.vector_norm(points_BMP2 - constant(place, points_BMP2), dim=-1)
    index = distance.argmin(-1)[..., None, None].expand(-1, -1, 1, 2)
    return points_BMP2.gather(2, index).squeeze(2)
