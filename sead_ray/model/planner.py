"""Ego planning: the ego query asks the agents, then the map (VAD, sec. 3.3).

Shape legend: B clips, C channels, T future steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sead_ray.model.branches import regression_branch
from sead_ray.model.constants import constant
from sead_ray.model.decoder import Agents
from sead_ray.model.linear import Linear
from sead_ray.model.motion import InteractionLayer, Motion, ego_position
from sead_ray.model.presets import VADSize


class PlanningHead(nn.Module):
    def __init__(self, size: VADSize) -> None:
        super().__init__()
        self.size = size
        dims = size.embed_dims
        self.ego_query = nn.Embedding(1, dims)
        self.agent_fusion = nn.Sequential(
            Linear(2 * size.modes * dims, dims), nn.LayerNorm(dims), nn.ReLU(), Linear(dims, dims)
        )
        self.agent_layer = InteractionLayer(size)
        self.agent_pos = Linear(2, dims)
        self.map_layer = InteractionLayer(size)
        self.map_pos = Linear(2, dims)
        self.path_branch = regression_branch(2 * dims, size.commands * size.future_steps * 2)
        # Upstream's optional ego status, here from the CAN vector; not in the published sizes.
        self.status = Linear(size.can_bus_dims, dims) if size.ego_status else None

    def forward(self, agents: Agents, motion: Motion, can_bus: Tensor) -> Tensor:
        """`can_bus` as the encoder reads it. Returns (B, commands, T, 2) per-step offsets, metres."""
        size, batch = self.size, can_bus.shape[0]
        query = self.ego_query.weight.expand(batch, 1, -1)
        if self.status is not None:
            query = query + self.status(can_bus).unsqueeze(1)
        here = constant(ego_position(size), can_bus).expand(batch, 1, 2)
        fused = self.agent_fusion(motion.features.flatten(2))
        after_agents = self.agent_layer(query, self.agent_pos(here), fused, self.agent_pos(agents.centers))
        after_map = self.map_layer(after_agents, self.map_pos(here), motion.lanes, self.map_pos(motion.lane_pos))
        path = self.path_branch(torch.cat([after_agents, after_map], -1))
        return path.view(batch, size.commands, size.future_steps, 2)
