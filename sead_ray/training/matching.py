"""Bipartite matching of queries with targets (VAD: HungarianAssigner3D, MapHungarianAssigner3D).

Costs of all layers and samples are computed in one batch on the device and cross to the host once; samples never
mix: each (layer, sample) pair is an assignment problem of its own.

Shape legend: L decoder layers, B samples, N agent queries, M map queries, G targets of a sample (padded to the
largest), O point orders, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

FOCAL_ALPHA = 0.25  # VAD: FocalLoss, FocalLossCost
FOCAL_GAMMA = 2.0
MATCHED_BOX_CODES = 8  # velocities are not matched on (VAD: hungarian_assigner_3d)


@dataclass(frozen=True)
class Matches:
    """The target of every query in every layer, in a shape that does not depend on how many targets there are.

    Attributes:
        matched: (L, B, N) whether the query has a target.
        target: (L, B, N) index of the target in its sample; 0 without one.
        flat_target: (L, B, N) index of the target in the targets of all samples, one after the other; 0 without one.
        positives: (B,) matched pairs of each sample, at least 1: what its sums are divided by (VAD: avg_factor).
    """

    matched: Tensor
    target: Tensor
    flat_target: Tensor
    positives: Tensor


def focal_cost(logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """(L, B, N, G) classification cost of giving each query each target's class (VAD: FocalLossCost).

    Args:
        logits: (L, B, N, classes).
        labels: (B, G) int64; padding may hold any valid class.
    """
    eps = 1e-12
    probability = logits.sigmoid()
    if_negative = -(1 - probability + eps).log() * (1 - FOCAL_ALPHA) * probability.pow(FOCAL_GAMMA)
    if_positive = -(probability + eps).log() * FOCAL_ALPHA * (1 - probability).pow(FOCAL_GAMMA)
    index = labels[None, :, None].expand(logits.shape[0], -1, logits.shape[2], -1)
    return torch.gather(if_positive - if_negative, -1, index) * weight


def agent_costs(
    class_logits: Tensor, boxes: Tensor, labels: Tensor, box_codes: Tensor, class_weight: float, box_weight: float
) -> Tensor:
    """(L, B, N, G): focal cost and L1 distance of the first eight box codes.

    Args:
        class_logits: (L, B, N, 10); boxes: (L, B, N, 10).
        labels: (B, G); box_codes: (B, G, 10), see `losses.encode_boxes`.
    """
    distance = torch.cdist(
        boxes[..., :MATCHED_BOX_CODES].contiguous(),
        box_codes[None, ..., :MATCHED_BOX_CODES].expand(boxes.shape[0], -1, -1, -1).contiguous(),
        p=1.0,
    )
    return focal_cost(class_logits, labels, class_weight) + distance * box_weight


def map_costs(
    class_logits: Tensor, points: Tensor, labels: Tensor, orders: Tensor, class_weight: float, points_weight: float
) -> tuple[Tensor, Tensor]:
    """Cost (L, B, M, G) and, for each pair, the point order that is nearest (L, B, M, G) (VAD: OrderedPtsL1Cost).

    Args:
        class_logits: (L, B, M, 3); points: (L, B, M, P, 2) normalised.
        labels: (B, G); orders: (B, G, O, P, 2) normalised; unused orders lie far away.
    """
    layers, samples, n_orders = points.shape[0], orders.shape[0], orders.shape[2]
    flat_orders = orders.reshape(samples, -1, orders.shape[-2] * 2)
    distance = torch.cdist(points.flatten(3), flat_orders[None].expand(layers, -1, -1, -1).contiguous(), p=1.0)
    distance = distance.unflatten(-1, (orders.shape[1], n_orders)) * points_weight
    best, order = distance.min(dim=-1)
    return focal_cost(class_logits, labels, class_weight) + best, order


def match(costs: list[Tensor], counts: list[list[int]], device: torch.device) -> list[Matches]:
    """Solves several sets of assignment problems with one transfer from the device and one back.

    Args:
        costs: each (L, B, N, G).
        counts: for each cost, the number of true targets of every sample.
        device: where the indices are needed.

    Raises:
        FloatingPointError: a cost is not finite, so the model's outputs are not.
    """
    host = _on_host(torch.cat([cost.detach().flatten() for cost in costs]))
    if not np.isfinite(host).all():
        raise FloatingPointError("the model's outputs are not finite, so nothing can be matched: training diverged")
    solved, start = [], 0
    for cost, count in zip(costs, counts):
        solved.append(_assign(host[start : start + cost.numel()].reshape(cost.shape), count))
        start += cost.numel()
    positives = [np.clip(count, 1, cost.shape[2]).astype(np.int64) for cost, count in zip(costs, counts)]
    parts = [*solved, *positives]
    packed = torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts]))
    if device.type == "cuda":
        packed = packed.pin_memory().to(device, non_blocking=True)
    on_device = [chunk.reshape(part.shape) for chunk, part in zip(packed.split([p.size for p in parts]), parts)]
    return [
        Matches(pairs[1] >= 0, pairs[0], pairs[1].clamp(min=0), positive)
        for pairs, positive in zip(on_device[: len(costs)], on_device[len(costs) :])
    ]


def _on_host(costs: Tensor) -> NDArray[np.float32]:
    """Through page-locked memory: a pageable copy is staged in pieces. The one place of a step that waits for a GPU."""
    if costs.device.type != "cuda":
        return costs.numpy()
    host = torch.empty(costs.shape, dtype=costs.dtype, pin_memory=True)
    host.copy_(costs, non_blocking=True)
    torch.cuda.current_stream(costs.device).synchronize()
    return host.numpy()


def _assign(costs: NDArray[np.float32], counts: list[int]) -> NDArray[np.int64]:
    """(2, L, B, N): each query's target in its sample, 0 without one, and among all targets, -1 without one."""
    starts = np.concatenate([[0], np.cumsum(counts)])
    pairs = np.zeros((2, *costs.shape[:3]), np.int64)
    pairs[1] = -1
    for layer, sample in np.ndindex(*costs.shape[:2]):
        query, target = linear_sum_assignment(costs[layer, sample, :, : counts[sample]])
        pairs[0, layer, sample, query] = target
        pairs[1, layer, sample, query] = target + starts[sample]
    return pairs
