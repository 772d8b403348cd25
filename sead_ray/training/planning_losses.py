"""VAD's four planning losses (sec. 3.4): imitation, map boundary, agent collision, lane direction.

Each returns (B,): what upstream computes for that sample as a batch of one. Nothing is written into the inputs
(upstream's collision loss overwrites the predicted futures).

Shape legend: B samples, V map instances, P points, N agents, R modes, T steps; all coordinates in metres.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sead_ray.model.constants import constant

BOUNDARY_CLASS = 2
DIVIDER_CLASS = 0
VEHICLE_CLASSES = 5  # the first five agent classes
SCORE_THRESHOLD = 0.5
FAR_M = 1e6  # where elements below the threshold are put, as upstream
BOUNDARY_DISTANCE_M = 1.0
LANE_DISTANCE_M = 2.0
STATIC_DISTANCE_M = 1.0
AGENT_DISTANCE_M = 3.0
COLLISION_X_M = 1.5
COLLISION_Y_M = 3.0


def imitation_loss(plans: Tensor, target: Tensor, mask: Tensor, command: Tensor) -> Tensor:
    """L1 of the commanded plan's offsets.

    The mean runs over the plans of all three commands, so it is a third of the usual one (VAD: loss_planning).

    Args:
        plans: (B, 3, T, 2) per-step offsets; target: (B, T, 2); mask: (B, T); command: (B,) index.
    """
    chosen = select_plan(plans, command)
    return ((chosen - target).abs() * mask[..., None]).sum(dim=(-1, -2)) / plans[0].numel()


def select_plan(plans: Tensor, command: Tensor) -> Tensor:
    """(B, T, 2) the plan of each sample's command."""
    return plans[torch.arange(len(plans), device=plans.device), command]


def boundary_loss(plan: Tensor, lines: Tensor, line_scores: Tensor, mask: Tensor) -> Tensor:
    """How far each planned position is within 1 m of the nearest point of a predicted road boundary.

    From the first step on whose segment crosses that boundary the loss is 0: a plan beyond it is not pushed back.

    Args:
        plan: (B, T, 2) per-step offsets; lines: (B, V, P, 2); line_scores: (B, V, 3) probabilities; mask: (B, T).
    """
    path = plan.cumsum(dim=-2)
    lines = _keep_class(lines, line_scores, BOUNDARY_CLASS)
    point, instance = _nearest(path, lines)
    distance = torch.linalg.norm(path - point, dim=-1)
    crossed = _crosses(path.detach(), instance.detach()).int().cumsum(dim=-1) > 0
    loss = torch.where((distance <= BOUNDARY_DISTANCE_M) & ~crossed, BOUNDARY_DISTANCE_M - distance, 0.0)
    return (loss * mask).mean(dim=-1)


def collision_loss(
    plan: Tensor, centers: Tensor, futures: Tensor, agent_scores: Tensor, mode_scores: Tensor, mask: Tensor
) -> Tensor:
    """How far each planned position is within 1.5 m in x, and 3 m in y, of predicted vehicles.

    The nearest vehicle is taken in x and in y independently, among those closer than 3 m (VAD: plan_col_loss).

    Args:
        plan: (B, T, 2); centers: (B, N, 2); futures: (B, N, R, T, 2) per-step offsets.
        agent_scores: (B, N, 10) and mode_scores: (B, N, R) probabilities; mask: (B, T).
    """
    path = plan.cumsum(dim=-2)
    score, label = agent_scores.max(dim=-1)
    is_vehicle = (score >= SCORE_THRESHOLD) & (label < VEHICLE_CLASSES)
    mode = mode_scores.argmax(dim=-1)[..., None, None, None].expand(-1, -1, 1, *futures.shape[-2:])
    future = torch.gather(futures, 2, mode)[:, :, 0]
    agents = centers[:, :, None] + torch.where(is_vehicle[..., None, None], future, FAR_M).cumsum(dim=-2)
    near = torch.linalg.norm(path.detach()[:, None] - agents.detach(), dim=-1) <= AGENT_DISTANCE_M
    agents = torch.where(near[..., None], agents, FAR_M)
    gap = (path[:, None] - agents).abs()
    gap = torch.gather(gap, 1, gap.detach().argmin(dim=1, keepdim=True))[:, 0]
    limit = constant([COLLISION_X_M, COLLISION_Y_M], gap)
    loss = torch.where(gap <= limit, limit - gap, 0.0)
    return (loss * mask[..., None]).mean(dim=(-1, -2))


def direction_loss(plan: Tensor, lines: Tensor, line_scores: Tensor, mask: Tensor) -> Tensor:
    """Angle between the plan's heading and the nearest predicted lane divider, folded modulo pi.

    0 where no divider is within 2 m, and for a plan that moves less than 1 m after its first step.

    Args: as `boundary_loss`.
    """
    path = plan.cumsum(dim=-2)
    lines = _keep_class(lines, line_scores, DIVIDER_CLASS)
    point, instance = _nearest(path, lines)
    follower = _next_point(path.detach(), instance)
    steps = path.diff(dim=-2)
    heading = _angle(torch.cat([steps, steps[:, -1:]], dim=-2))  # the last step keeps the heading before it
    # from the nearest point to its neighbour; which of the two ends comes first is folded away
    difference = _fold(heading - _angle(follower - point))
    has_lane = torch.linalg.norm((point - path).detach(), dim=-1) <= LANE_DISTANCE_M
    moves = torch.linalg.norm((path[:, -1] - path[:, 0]).detach(), dim=-1) >= STATIC_DISTANCE_M
    loss = torch.where(has_lane & moves[:, None], difference.abs(), 0.0)
    return (loss * mask).mean(dim=-1)


def _keep_class(lines: Tensor, scores: Tensor, line_class: int) -> Tensor:
    """Lines of one class; the others are moved far away."""
    return torch.where((scores[..., line_class] >= SCORE_THRESHOLD)[..., None, None], lines, FAR_M)


def _nearest(path: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest point (B, T, 2) to each position, and its whole line (B, T, P, 2)."""
    with torch.no_grad():
        distance = torch.linalg.norm(path[:, :, None, None] - lines[:, None], dim=-1)
        nearest = distance.flatten(2).argmin(dim=-1)
    samples = torch.arange(len(path), device=path.device)[:, None]
    n_points = lines.shape[2]
    line = nearest // n_points
    return lines[samples, line, nearest % n_points], lines[samples, line]


def _next_point(path: Tensor, instance: Tensor) -> Tensor:
    """(B, T, 2) the neighbour of a line's nearest point: the next one, or the one before the end."""
    index = torch.linalg.norm(path[:, :, None] - instance.detach(), dim=-1).argmin(dim=-1)
    last = instance.shape[2] - 1
    index = torch.where(index == last, last - 1, index + 1)
    return torch.gather(instance, 2, index[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]


def _crosses(path: Tensor, instance: Tensor) -> Tensor:
    """(B, T) whether the segment that ends at each position crosses a segment of the line (B, T, P, 2)."""
    start = torch.cat([torch.zeros_like(path[:, :1]), path[:, :-1]], dim=1)[:, :, None]
    ego = path[:, :, None] - start
    segment = instance[:, :, 1:] - instance[:, :, :-1]
    offset = instance[:, :, :-1] - start
    determinant = _cross(ego, segment)
    along_ego = _cross(offset, segment) / determinant
    along_line = _cross(offset, ego) / determinant
    inside = (along_ego >= 0) & (along_ego <= 1) & (along_line >= 0) & (along_line <= 1)
    return (inside & (determinant != 0)).any(dim=-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _angle(vector: Tensor) -> Tensor:
    """Direction in rad; 0, with a gradient of 0 (not NaN), for the zero vector."""
    is_zero = (vector == 0).all(dim=-1, keepdim=True)
    vector = torch.where(is_zero, constant([1.0, 0.0], vector), vector)
    return torch.atan2(vector[..., 1], vector[..., 0])


def _fold(angle: Tensor) -> Tensor:
    """Angles in (-2 pi, 2 pi) folded modulo pi into [-pi/2, pi/2], as upstream."""
    angle = torch.where(angle > math.pi, angle - math.pi, angle)
    angle = torch.where(angle > math.pi / 2, angle - math.pi, angle)
    angle = torch.where(angle < -math.pi, angle + math.pi, angle)
    return torch.where(angle < -math.pi / 2, angle + math.pi, angle)
