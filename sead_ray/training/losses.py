"""Detection, map and motion losses of VAD, each the mean over samples of what upstream computes for a batch of one.

Every function returns one number for each layer and sample, (L, B), already divided by the sample's number of
matched pairs; the criterion weights, and averages over B. Samples never mix.

Shape legend: see `matching`; K matched pairs, R modes, T steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sead_ray.model.constants import constant
from sead_ray.training.matching import FOCAL_ALPHA, FOCAL_GAMMA, Matches

# VAD: code_weights; velocities count a fifth
BOX_CODE_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
MIN_BOX_SIZE_M = 1e-3  # keeps the logarithm of a degenerate box finite; upstream stops in the assigner there


def encode_boxes(boxes: Tensor) -> Tensor:
    """(..., 9) x, y, z, w, l, h, yaw, vx, vy -> (..., 10) cx, cy, log w, log l, cz, log h, sin, cos, vx, vy."""
    x, y, z, width, length, height, yaw, vx, vy = boxes.unbind(-1)
    width, length, height = (size.clamp(min=MIN_BOX_SIZE_M).log() for size in (width, length, height))
    return torch.stack([x, y, width, length, z, height, yaw.sin(), yaw.cos(), vx, vy], dim=-1)


def normalise_points(points_m: Tensor, pc_range: tuple[float, ...]) -> Tensor:
    """Lidar x, y in metres to 0..1 over the range (VAD: normalize_2d_pts)."""
    low = constant(pc_range[:2], points_m)
    size = constant([pc_range[3] - pc_range[0], pc_range[4] - pc_range[1]], points_m)
    return (points_m - low) / size


def denormalise_points(points: Tensor, pc_range: tuple[float, ...]) -> Tensor:
    """0..1 over the range to metres."""
    low = constant(pc_range[:2], points)
    size = constant([pc_range[3] - pc_range[0], pc_range[4] - pc_range[1]], points)
    return points * size + low


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Element-wise sigmoid focal loss; `targets` are 0 or 1 of the same shape."""
    probability = logits.sigmoid()
    miss = (1 - probability) * targets + probability * (1 - targets)
    weight = (FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)) * miss.pow(FOCAL_GAMMA)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight


def classification_loss(logits: Tensor, labels: Tensor, matches: Matches) -> Tensor:
    """(L, B) focal loss over all queries; unmatched ones are of no class (VAD: bg_cls_weight 0).

    Args:
        logits: (L, B, N, classes).
        labels: (L, K) class of each matched pair.
    """
    targets = torch.zeros_like(logits)
    targets[(*_pair_index(matches), labels)] = 1.0
    return focal_loss(logits, targets).sum(dim=(-1, -2)) / matches.positives


def box_loss(boxes: Tensor, box_codes: Tensor, matches: Matches) -> Tensor:
    """(L, B) weighted L1 of the ten box codes. boxes: (L, B, N, 10); box_codes: (all targets, 10)."""
    difference = (boxes[_pair_index(matches)] - box_codes[matches.flat_target]).abs()
    return _mean_over_positives((difference * constant(BOX_CODE_WEIGHTS, boxes)).sum(-1), matches)


def nearest_order(points_order: Tensor, orders: Tensor, matches: Matches) -> Tensor:
    """(L, K, P, 2) each pair's target points in the order that is nearest to its prediction.

    Args:
        points_order: (L, B, M, G) from `matching.map_costs`.
        orders: (all targets, O, P, 2).
    """
    order = points_order[(*_pair_index(matches), matches.target)]
    return orders[matches.flat_target, order]


def map_points_loss(points: Tensor, targets: Tensor, matches: Matches) -> Tensor:
    """(L, B) summed L1 of normalised points (VAD: PtsL1Loss). points: (L, B, M, P, 2); targets: (L, K, P, 2)."""
    return _mean_over_positives((points[_pair_index(matches)] - targets).abs().sum(dim=(-1, -2)), matches)


def map_direction_loss(points_m: Tensor, targets_m: Tensor, matches: Matches) -> Tensor:
    """(L, B) 1 - cosine between the segments of a line and of its target, both in metres (VAD: PtsDirCosLoss)."""
    segments = points_m[_pair_index(matches)].diff(dim=-2)
    flat_segments, flat_targets = segments.reshape(-1, 2), targets_m.diff(dim=-2).reshape(-1, 2)
    same_direction = flat_segments.new_ones(flat_segments.shape[0])
    flat = F.cosine_embedding_loss(flat_segments, flat_targets, same_direction, reduction="none")
    return _mean_over_positives(flat.reshape(segments.shape[:-1]).sum(-1), matches)


def nearest_mode(futures: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """(K,) the mode whose last position is nearest to the target's.

    Only the last step counts, times its mask: where it is unknown every distance is 0 and mode 0 is taken
    (VAD: get_best_fut_preds).

    Args:
        futures: (K, R, T, 2) per-step offsets; targets: (K, T, 2); mask: (K, T).
    """
    distance = torch.linalg.norm(targets.cumsum(-2)[:, None, -1] - futures.detach().cumsum(-2)[:, :, -1], dim=-1)
    return (distance * mask[:, -1:]).nan_to_num().argmin(dim=-1)


def trajectory_losses(
    mode_offsets: Tensor, mode_logits: Tensor, futures: Tensor, masks: Tensor, matches: Matches
) -> tuple[Tensor, Tensor]:
    """(1, B) L1 of the nearest mode's offsets, and (1, B) focal loss of its choice, on the last layer's pairs.

    Args:
        mode_offsets: (B, N, R, 2 T); mode_logits: (B, N, R).
        futures: (all targets, T, 2) per-step offsets; masks: (all targets, T).
        matches: of the last layer alone, L = 1.
    """
    sample, query, target = matches.sample, matches.query[0], matches.flat_target[0]
    target_offsets, mask = futures[target], masks[target]
    predicted = mode_offsets[sample, query].unflatten(-1, (-1, 2))
    mode = nearest_mode(predicted, target_offsets, mask)
    best = predicted[torch.arange(len(mode), device=mode.device), mode]
    difference = ((best - target_offsets).abs() * mask[..., None]).sum(dim=(-1, -2))
    choice = torch.zeros_like(mode_logits)
    choice[sample, query, mode] = 1.0
    choice_loss = focal_loss(mode_logits, choice).sum(dim=(-1, -2)) / matches.positives
    return _mean_over_positives(difference[None], matches), choice_loss[None]


def _pair_index(matches: Matches) -> tuple[Tensor, Tensor, Tensor]:
    """Index of the matched queries in a (L, B, N, ...) tensor, giving (L, K, ...)."""
    layers = torch.arange(matches.query.shape[0], device=matches.query.device)[:, None]
    return layers, matches.sample[None], matches.query


def _mean_over_positives(values: Tensor, matches: Matches) -> Tensor:
    """(L, K) values of pairs to (L, B): the sum of each sample over its number of pairs.

    By a mask and not `index_add`, whose order of summation changes from run to run on a GPU.
    """
    samples = torch.arange(len(matches.positives), device=values.device)
    own = matches.sample[:, None] == samples
    return torch.where(own, values[..., None], 0.0).sum(dim=1) / matches.positives
