"""What every base model takes and gives. Scoring, selection, serving and evaluation know only this.

State goes in and out: `out = model(frame, history)`; the model keeps nothing between calls. The history to pass
with the next frame of the same clips is `out.bev`; on a clip's first frame it is None.

Shape legend: B clips in lockstep, K cameras, N agent queries, M map instances, P points of an instance, C channels,
R modes, T future steps (6, 0.5 s each), Q = bev_h * bev_w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class FrameBatch:
    """Frame t of B clips.

    Attributes:
        images: (B, K, 3, H, W) float32, normalised RGB, zero-padded below and right to a multiple of 32.
        lidar2img: (B, K, 4, 4) float32, lidar points to pixels of `images`.
        can_bus: (B, 18) float32 or float64; [0:3] and [17] are differences to the frame before, 0 on a clip's first
            frame. In float64 the angle turns the history to the very cells that upstream takes.
    """

    images: Tensor
    lidar2img: Tensor
    can_bus: Tensor

    def to(self, device: str, non_blocking: bool = False) -> FrameBatch:
        return FrameBatch(
            self.images.to(device, non_blocking=non_blocking),
            self.lidar2img.to(device, non_blocking=non_blocking),
            self.can_bus.to(device, non_blocking=non_blocking),
        )


@dataclass
class PlannerOutput:
    """A base model's answer for one frame of B clips.

    Attributes:
        bev: (B, Q, C), before anything rotates it; the history of the next frame.
        agent_features: (B, N, C), queries of the last decoder layer (F_a of the paper).
        map_features: (B, M, P, C), point queries of the last decoder layer (F_m).
        agent_scores: (B, N, 10) probabilities, order of `records.AGENT_CLASSES`.
        agent_centers_m: (B, N, 2) x, y in the lidar frame.
        mode_trajectories_m: (B, N, R, T, 2) per-step offsets, lidar axes.
        mode_probabilities: (B, N, R), sum 1 over R.
        plans_m: (B, 3, T, 2) per-step offsets of the planned path for each `records.Command`.
    """

    bev: Tensor
    agent_features: Tensor
    map_features: Tensor
    agent_scores: Tensor
    agent_centers_m: Tensor
    mode_trajectories_m: Tensor
    mode_probabilities: Tensor
    plans_m: Tensor


@dataclass
class VADOutput(PlannerOutput):
    """VAD's raw head outputs, which its losses and decoders need. L decoder layers, the last one last.

    Attributes:
        class_logits: (L, B, N, 10).
        boxes: (L, B, N, 10) cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy; metres, VAD's yaw.
        mode_offsets: (B, N, R, 2 T) raw trajectory branch; `mode_logits`: (B, N, R).
        map_class_logits: (L, B, M, 3).
        map_boxes: (L, B, M, 4) cx, cy, w, h normalised; map_points: (L, B, M, P, 2) normalised to 0..1.
    """

    class_logits: Tensor
    boxes: Tensor
    mode_offsets: Tensor
    mode_logits: Tensor
    map_class_logits: Tensor
    map_boxes: Tensor
    map_points: Tensor


class BasePlanner(Protocol):
    """A BEV planner that the service can drive. `bev_hw`: rows and columns of its BEV, Q = rows * columns."""

    @property
    def bev_hw(self) -> tuple[int, int]: ...

    def __call__(self, frame: FrameBatch, history: Tensor | None) -> PlannerOutput: ...
