"""What leaves the GPU actor for one frame of one clip: a few small arrays instead of a 10 MB BEV.

Shape legend as in `model.contract`: B clips in lockstep, N agent queries, M map instances, P points, C channels,
R modes, T = 6 future steps; k = `ScoreConfig.reduce_to`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sead_ray.config import ScoreConfig
from sead_ray.errors import InputError
from sead_ray.geometry import invert
from sead_ray.model.contract import PlannerOutput
from sead_ray.records import AGENT_CLASSES

# "Other road participants" of Eq. 4: vehicles, cycles and pedestrians; not the things put on a road.
PARTICIPANT_CLASSES = tuple(i for i, name in enumerate(AGENT_CLASSES) if name not in ("barrier", "traffic_cone"))

MAX_BEV_TOKENS = 400

# Distance at which an agent's weight in the agent uncertainty has fallen to 1/e. ActiveAD weights near agents more.
NEARNESS_SCALE_M = 10.0


@dataclass(frozen=True)
class FrameFeatures:
    """One frame of one clip, float32.

    Attributes:
        agents: (N, k) agent queries, channels average-pooled (F'_a); (k, C) where queries are pooled instead.
        map_instances: (M, k) map instances: mean of an instance's points, then reduced as the agents (F'_m).
        nearest_distance_m: to the nearest road participant with confidence >= theta_confidence; inf where none.
        max_confidence: highest class probability of a road participant.
        planned_path_m: (6, 2) planned positions for the frame's command, in the frame's lidar frame.
        embedding: (C,) mean of the BEV.
        soft_collision: `soft_collision_term`. agent_uncertainty: `agent_uncertainty_term`.
        bev: (tokens, k) the BEV pooled to at most 400 tokens, channels as the agents'; empty where it is not scored.
    """

    agents: NDArray[np.float32]
    map_instances: NDArray[np.float32]
    nearest_distance_m: float
    max_confidence: float
    planned_path_m: NDArray[np.float32]
    embedding: NDArray[np.float32]
    soft_collision: float
    agent_uncertainty: float
    bev: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def is_finite(self) -> bool:
        """False where the model gave NaN or infinity; only `nearest_distance_m` may be infinite."""
        arrays = (self.agents, self.map_instances, self.planned_path_m, self.embedding, self.bev)
        scalars = (self.max_confidence, self.soft_collision, self.agent_uncertainty)
        return (
            all(bool(np.isfinite(array).all()) for array in arrays)
            and bool(np.isfinite(scalars).all())
            and not np.isnan(self.nearest_distance_m)
        )


@dataclass(frozen=True)
class PackedFeatures:
    """Reduced features of one frame of B clips, still on the device: nothing has waited for it.

    Attributes:
        flat: (B, F) float32, the parts of each clip side by side.
        shapes: of the parts, by the name of their field in `FrameFeatures`, in the order of `flat`.
    """

    flat: Tensor
    shapes: dict[str, tuple[int, ...]]


def extract_features(
    output: PlannerOutput,
    commands: Sequence[int] | Tensor,
    config: ScoreConfig,
    ego_from_lidar: ArrayLike | None = None,
    bev_hw: tuple[int, int] | None = None,
) -> list[FrameFeatures]:
    """Reduces a base model's output on its device and brings the result over in one transfer.

    Args:
        output: of one frame of B clips.
        commands: B driving commands, `records.Command`.
        config: `reduce_to`, the thresholds, `distance_from`.
        ego_from_lidar: (B, 4, 4), needed where `distance_from` is "ego".
        bev_hw: rows and columns of the BEV, needed where `bev_shift` is on.

    Returns:
        One `FrameFeatures` for each clip, in order.

    Raises:
        InputError: `reduce_to` exceeds the model's channels, or the lidar's mounting is needed and missing.
    """
    packed = pack_features(output, commands, config, ego_from_lidar, bev_hw)
    return unpack_features(packed.flat.cpu().numpy(), packed.shapes)


@torch.no_grad()
def pack_features(
    output: PlannerOutput,
    commands: Sequence[int] | Tensor,
    config: ScoreConfig,
    ego_from_lidar: ArrayLike | None = None,
    bev_hw: tuple[int, int] | None = None,
) -> PackedFeatures:
    """As `extract_features`, and leaves the result on the device; with `commands` there too, nothing waits for it."""
    n_clips, _, n_channels = output.agent_features.shape
    if len(commands) != n_clips:
        raise ValueError(f"{len(commands)} commands for {n_clips} clips")
    if config.pool_over == "channels" and config.reduce_to > n_channels:
        raise InputError(f"score.reduce_to is {config.reduce_to}, but the model has only {n_channels} channels.")
    plans_BT2 = _planned_path(output.plans_m, commands)
    centers_BN2 = output.agent_centers_m.float()
    confidence_BN = participant_confidence(output.agent_scores)
    confident_BN = confidence_BN >= config.theta_confidence
    origin_B2 = _origin(config, ego_from_lidar, n_clips, centers_BN2.device)
    distance_BN = torch.linalg.vector_norm(centers_BN2 - origin_B2[:, None], dim=-1)
    futures_BNT2 = _most_probable_futures(output)
    parts = {
        "agents": reduce_queries(output.agent_features, config),
        "map_instances": reduce_queries(output.map_features.float().mean(dim=2), config),
        "nearest_distance_m": _minimum_where(confident_BN, distance_BN),
        "max_confidence": confidence_BN.amax(dim=1),
        "planned_path_m": plans_BT2,
        "embedding": output.bev.mean(dim=1, dtype=torch.float32),
        "soft_collision": soft_collision_term(plans_BT2, futures_BNT2, confident_BN),
        "agent_uncertainty": agent_uncertainty_term(output.mode_probabilities, distance_BN, confident_BN),
    }
    if config.bev_shift:
        if bev_hw is None:
            raise ValueError("the BEV's shift needs its rows and columns")
        parts["bev"] = reduce_queries(pool_bev(output.bev, bev_hw), config)
    shapes = {name: tuple(part.shape[1:]) for name, part in parts.items()}
    return PackedFeatures(torch.cat([part.reshape(n_clips, -1) for part in parts.values()], dim=1), shapes)


def unpack_features(flat: NDArray[np.float32], shapes: dict[str, tuple[int, ...]]) -> list[FrameFeatures]:
    """One `FrameFeatures` for each row of (rows, F), as views of it."""
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes.values())])
    pieces = [(name, shape, slice(*ends)) for (name, shape), ends in zip(shapes.items(), pairwise(starts.tolist()))]
    frames = []
    for row in flat:
        values: dict[str, Any] = {}
        for name, shape, piece in pieces:
            values[name] = row[piece].reshape(shape) if shape else float(row[piece.start])
        frames.append(FrameFeatures(**values))
    return frames


def reduce_queries(features: Tensor, config: ScoreConfig) -> Tensor:
    """(B, N, C) to what the earth mover's distance compares: `reduce_to` channels of each query, or `reduce_to`
    (at most N) means of neighbouring queries with all channels."""
    if config.pool_over == "channels":
        return reduce_channels(features, config.reduce_to)
    k = min(config.reduce_to, features.shape[1])
    return torch.nn.functional.adaptive_avg_pool1d(features.float().transpose(1, 2), k).transpose(1, 2)


def pool_bev(bev: Tensor, bev_hw: tuple[int, int]) -> Tensor:
    """(B, Q, C) to (B, tokens, C), at most `MAX_BEV_TOKENS`: each side average-pooled to at most 20 cells.

    An exact earth mover's distance between 10,000 cells takes half a minute; of 400 tokens, milliseconds.
    """
    grid = bev.float().unflatten(1, bev_hw).permute(0, 3, 1, 2)
    side = round(MAX_BEV_TOKENS**0.5)
    sides = (min(bev_hw[0], side), min(bev_hw[1], side))
    return torch.nn.functional.adaptive_avg_pool2d(grid, sides).flatten(2).transpose(1, 2)


def reduce_channels(features: Tensor, k: int) -> Tensor:
    """(B, N, C) queries to (B, N, k): adaptive average pooling over channels ("averaging the elements", sec. 4.1).

    Where k divides C, value j is the mean of channels [j C/k, (j + 1) C/k).
    """
    return torch.nn.functional.adaptive_avg_pool1d(features.float(), k)


def participant_confidence(agent_scores: Tensor) -> Tensor:
    """(B, N): a query's highest probability among the participant classes. Scores are per class, not a softmax, so
    a query whose best class is a cone may still pass as a pedestrian."""
    return agent_scores.float()[..., _participants(agent_scores.device)].amax(dim=-1)


@lru_cache(maxsize=8)
def _participants(device: torch.device) -> Tensor:
    """`PARTICIPANT_CLASSES` on the device; kept, since bringing an index there waits for everything under way."""
    with torch.inference_mode(False):
        return torch.tensor(PARTICIPANT_CLASSES, device=device)


def soft_collision_term(plan_BT2: Tensor, futures_BNT2: Tensor, confident_BN: Tensor) -> Tensor:
    """(B,) ActiveAD's soft collision, as read here: exp(-d), d the smallest distance in metres at equal times between
    the planned ego positions and the predicted ones (most probable mode) of confident participants; 0 where none."""
    gaps_BN = torch.linalg.vector_norm(futures_BNT2 - plan_BT2[:, None], dim=-1).amin(dim=-1)
    return torch.exp(-_minimum_where(confident_BN, gaps_BN))


def agent_uncertainty_term(mode_probabilities: Tensor, distance_BN: Tensor, confident_BN: Tensor) -> Tensor:
    """(B,) ActiveAD's agent uncertainty, as read here: sum over confident participants of exp(-distance / 10 m) times
    the entropy (nats) of their mode probabilities. A sum, so that one far agent weighs little; 0 where none."""
    entropy_BN = torch.special.entr(mode_probabilities.float()).sum(dim=-1)
    weighted_BN = torch.exp(-distance_BN / NEARNESS_SCALE_M) * entropy_BN
    return torch.where(confident_BN, weighted_BN, torch.zeros_like(weighted_BN)).sum(dim=1)


def _planned_path(plans_m: Tensor, commands: Sequence[int] | Tensor) -> Tensor:
    """(B, T, 2) positions: the command only selects among VAD's three plans of per-step offsets."""
    if not isinstance(commands, Tensor):
        commands = torch.tensor([int(command) for command in commands])
    rows = torch.arange(len(commands), device=plans_m.device)
    return plans_m.float()[rows, commands.to(plans_m.device)].cumsum(dim=1)


def _most_probable_futures(output: PlannerOutput) -> Tensor:
    """(B, N, T, 2) predicted positions in the lidar frame."""
    mode_BN = output.mode_probabilities.argmax(dim=-1)
    offsets_BNRT2 = output.mode_trajectories_m.float()
    index = mode_BN[..., None, None, None].expand(-1, -1, 1, *offsets_BNRT2.shape[-2:])
    offsets_BNT2 = offsets_BNRT2.gather(2, index).squeeze(2)
    return output.agent_centers_m.float()[:, :, None] + offsets_BNT2.cumsum(dim=2)


def _origin(config: ScoreConfig, ego_from_lidar: ArrayLike | None, n_clips: int, device: torch.device) -> Tensor:
    """(B, 2) the point in the lidar frame from which distances count."""
    if config.distance_from == "lidar":
        return torch.zeros(n_clips, 2, device=device)
    if ego_from_lidar is None:
        raise InputError('score.distance_from is "ego", but the clip does not say where its lidar is mounted.')
    lidar_from_ego = invert(np.broadcast_to(np.asarray(ego_from_lidar, np.float64), (n_clips, 4, 4)))
    return torch.from_numpy(lidar_from_ego[:, :2, 3].astype(np.float32)).to(device, non_blocking=True)


def _minimum_where(mask_BN: Tensor, values_BN: Tensor) -> Tensor:
    """(B,) smallest of the masked values, inf where there is none; a masked NaN stays NaN."""
    return torch.where(mask_BN, values_BN, torch.full_like(values_BN, torch.inf)).amin(dim=1)
