"""Boxes and lines from VAD's raw outputs (VAD: `CustomNMSFreeCoder`, `MapNMSFreeCoder`).

The best (query, class) pairs are taken, so a query may appear twice with different classes; then boxes whose centre
lies far outside are dropped. No threshold, no suppression.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sead_ray.model.contract import VADOutput

MAX_BOXES, MAX_LINES = 100, 50  # VAD configs
CENTER_RANGE = (-20.0, -35.0, -10.0, 20.0, 35.0, 10.0)  # VAD configs: post_center_range


@dataclass(frozen=True)
class DecodedBoxes:
    """Of one sample, by falling score: boxes (n, 9) x, y, z of the gravity centre, w, l, h, VAD's yaw, vx, vy;
    scores, labels, queries (n,); offsets_m (n, R, 2 T) per-step offsets of each mode."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    queries: Tensor
    offsets_m: Tensor


@dataclass(frozen=True)
class DecodedLines:
    """Of one sample, by falling score: points_m (n, P, 2) in the lidar frame; scores, labels, queries (n,)."""

    points_m: Tensor
    scores: Tensor
    labels: Tensor
    queries: Tensor


def box_from_code(code: Tensor) -> Tensor:
    """(..., 10) head code to (..., 9) x, y, z, w, l, h, yaw, vx, vy."""
    cx, cy, log_w, log_l, cz, log_h, sin_yaw, cos_yaw, vx, vy = code.unbind(-1)
    yaw = torch.atan2(sin_yaw, cos_yaw)
    return torch.stack([cx, cy, cz, log_w.exp(), log_l.exp(), log_h.exp(), yaw, vx, vy], -1)


def decode_boxes(output: VADOutput, max_boxes: int = MAX_BOXES) -> list[DecodedBoxes]:
    """One entry per sample."""
    decoded = []
    for logits, code, offsets in zip(output.class_logits[-1], output.boxes[-1], output.mode_offsets, strict=True):
        scores, labels, queries = _best_pairs(logits, max_boxes)
        boxes = box_from_code(code[queries])
        low, high = boxes.new_tensor(CENTER_RANGE[:3]), boxes.new_tensor(CENTER_RANGE[3:])
        keep = ((boxes[:, :3] >= low) & (boxes[:, :3] <= high)).all(-1)
        queries = queries[keep]
        decoded.append(DecodedBoxes(boxes[keep], scores[keep], labels[keep], queries, offsets[queries]))
    return decoded


def decode_lines(output: VADOutput, pc_range: tuple[float, ...], max_lines: int = MAX_LINES) -> list[DecodedLines]:
    """One entry per sample."""
    decoded = []
    for logits, points in zip(output.map_class_logits[-1], output.map_points[-1], strict=True):
        scores, labels, queries = _best_pairs(logits, max_lines)
        low, high = points.new_tensor(pc_range[:2]), points.new_tensor(pc_range[3:5])
        decoded.append(DecodedLines(points[queries] * (high - low) + low, scores, labels, queries))
    return decoded


def _best_pairs(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, classes, queries) of the `count` best entries of (N, classes)."""
    classes = logits.shape[-1]
    scores, index = logits.sigmoid().flatten().topk(min(count, logits.numel()))
    return scores, index % classes, index // classes
