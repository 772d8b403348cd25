"""Detection, map and motion losses of VAD, each the mean over samples of what upstream computes for a batch of one.

Every function returns one number for each layer and sample, (L, B), already divided by the sample's number of
matched pairs; the criterion weights, and averages over B. Samples never mix. There is one target for each query, and
those of unmatched queries are ignored: no shape depends on how many targets there are, and nothing waits for a GPU.

Shape legend: see `matching`; N queries, of agents or of map lines; R modes, T steps.
"""

from __future__ import annotations

from dataclasses import replace

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
        labels: (L, B, N) class of each query's target.
    """
    of_class = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
    targets = (of_class & matches.matched[..., None]).to(logits.dtype)
    return focal_loss(logits, targets).sum(dim=(-1, -2)) / matches.positives


def box_loss(boxes: Tensor, box_codes: Tensor, matches: Matches) -> Tensor:
    """(L, B) weighted L1 of the ten box codes. boxes, box_codes: (L, B, N, 10)."""
    difference = (boxes - box_codes).abs()
    return _mean_over_positives((difference * constant(BOX_CODE_WEIGHTS, boxes)).sum(-1), matches)


def map_points_loss(points: Tensor, targets: Tensor, matches: Matches) -> Tensor:
    """(L, B) summed L1 of normalised points (VAD: PtsL1Loss). points, targets: (L, B, N, P, 2)."""
    return _mean_over_positives((points - targets).abs().sum(dim=(-1, -2)), matches)


def map_direction_loss(points_m: Tensor, targets_m: Tensor, matches: Matches) -> Tensor:
    """(L, B) 1 - cosine between the segments of a line and of its target, both in metres (VAD: PtsDirCosLoss)."""
    segments = points_m.diff(dim=-2)
    flat_segments, flat_targets = segments.reshape(-1, 2), targets_m.diff(dim=-2).reshape(-1, 2)
    same_direction = flat_segments.new_ones(flat_segments.shape[0])
    flat = F.cosine_embedding_loss(flat_segments, flat_targets, same_direction, reduction="none")
    return _mean_over_positives(flat.reshape(segments.shape[:-1]).sum(-1), matches)


def nearest_mode(futures: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """(...) the mode whose last position is nearest to the target's.

    Only the last step counts, times its mask: where it is unknown every distance is 0 and mode 0 is taken
    (VAD: get_best_fut_preds).

    Args:
        futures: (..., R, T, 2) per-step offsets; targets: (..., T, 2); mask: (..., T).
    """
    ends = futures.detach().cumsum(-2)[..., -1, :]
    distance = torch.linalg.norm(targets.cumsum(-2)[..., None, -1, :] - ends, dim=-1)
    return (distance * mask[..., -1:]).nan_to_num().argmin(dim=-1)


def trajectory_losses(
    mode_offsets: Tensor, mode_logits: Tensor, futures: Tensor, masks: Tensor, matches: Matches
) -> tuple[Tensor, Tensor]:
    """(1, B) L1 of the nearest mode's offsets, and (1, B) focal loss of its choice, by the last layer's matches.

    Args:
        mode_offsets: (B, N, R, 2 T); mode_logits: (B, N, R).
        futures: (B, N, T, 2) per-step offsets of each query's target; masks: (B, N, T).
    """
    predicted = mode_offsets.unflatten(-1, (-1, 2))
    mode = nearest_mode(predicted, futures, masks)
    index = mode[..., None, None, None].expand(-1, -1, 1, *predicted.shape[-2:])
    best = torch.gather(predicted, 2, index)[:, :, 0]
    difference = ((best - futures).abs() * masks[..., None]).sum(dim=(-1, -2))
    choice_loss = classification_loss(mode_logits[None], mode[None], _last(matches))
    return _mean_over_positives(difference[None], _last(matches)), choice_loss


def _last(matches: Matches) -> Matches:
    """Of the last layer alone, L = 1."""
    return replace(matches, **{name: getattr(matches, name)[-1:] for name in ("matched", "target", "flat_target")})


def _mean_over_positives(values: Tensor, matches: Matches) -> Tensor:
    """(L, B, N) values of queries to (L, B): the sum over those with a target, by the sample's number of pairs."""
    return torch.where(matches.matched, values, 0.0).sum(dim=-1) / matches.positives
