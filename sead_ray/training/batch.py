"""What one optimiser step takes: images, calibration and targets of B samples, built by the loader, on any device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sead_ray.nuscenes.dataset import DrivingBatch
from sead_ray.nuscenes.device_images import frames_on_device
from sead_ray.nuscenes.encoded_images import EncodedImages
from sead_ray.records import FUTURE_STEPS, MAP_POINTS
from sead_ray.targets import MAP_ORDERS, FrameTargets
from sead_ray.training.augment import Draws
from sead_ray.training.losses import encode_boxes

T = TypeVar("T")
DECODED_TOGETHER = 8  # frames, whose pixels of full size then lie in a GPU's memory at a time


@dataclass(frozen=True)
class BatchTargets:
    """Targets of B frames; those of agents and maps one sample after the other.

    Attributes:
        agent_index, line_index: (B, G) of each sample's targets among all, filled up with 0 to the most of a sample.
    """

    n_agents: list[int]
    n_lines: list[int]
    labels: Tensor  # (agents,)
    box_codes: Tensor  # (agents, 10)
    futures: Tensor  # (agents, T, 2)
    future_masks: Tensor  # (agents, T)
    line_labels: Tensor  # (lines,)
    line_points_m: Tensor  # (lines, O, P, 2)
    ego_future: Tensor  # (B, T, 2)
    ego_mask: Tensor  # (B, T)
    command: Tensor  # (B,)
    agent_index: Tensor
    line_index: Tensor

    @classmethod
    def from_frames(cls, frames: list[FrameTargets], device: torch.device | str = "cpu") -> BatchTargets:
        def join(arrays: list[np.ndarray], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
            joined = np.concatenate([np.asarray(array).reshape(-1, *shape) for array in arrays])
            return torch.as_tensor(joined).to(dtype)

        number, index = torch.float32, torch.int64
        steps, points = frames[0].ego_future.shape[0], frames[0].map_points.shape[-2]
        n_agents, n_lines = (
            [len(part) for part in parts] for parts in zip(*((f.labels, f.map_labels) for f in frames))
        )
        targets = cls(
            n_agents=n_agents,
            n_lines=n_lines,
            labels=join([frame.labels for frame in frames], (), index),
            box_codes=encode_boxes(join([frame.boxes for frame in frames], (9,), number)),
            futures=join([frame.agent_futures for frame in frames], (steps, 2), number),
            future_masks=join([frame.agent_future_masks for frame in frames], (steps,), number),
            line_labels=join([frame.map_labels for frame in frames], (), index),
            line_points_m=join([frame.map_points for frame in frames], (MAP_ORDERS, points, 2), number),
            ego_future=join([frame.ego_future[None] for frame in frames], (steps, 2), number),
            ego_mask=join([frame.ego_future_mask[None] for frame in frames], (steps,), number),
            command=torch.tensor([int(frame.command) for frame in frames]),
            agent_index=_padded_index(n_agents),
            line_index=_padded_index(n_lines),
        )
        return targets.to(device)

    @classmethod
    def blank(cls, samples: int) -> BatchTargets:
        """Of frames in which nobody is near."""
        frame = FrameTargets(
            boxes=np.zeros((0, 9), np.float32),
            labels=np.zeros(0, np.int64),
            attributes=np.zeros((0, 34), np.float32),
            map_points=np.zeros((0, MAP_ORDERS, MAP_POINTS, 2), np.float32),
            map_labels=np.zeros(0, np.int64),
            ego_future=np.zeros((FUTURE_STEPS, 2), np.float32),
            ego_future_mask=np.zeros(FUTURE_STEPS, np.float32),
            command=0,
            future_valid=False,
        )
        return cls.from_frames([frame] * samples)

    def to(self, device: torch.device | str) -> BatchTargets:
        """Not blocking, where the memory is page-locked."""
        return _each(self, lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> BatchTargets:
        return _each(self, lambda part: part.pin_memory())


@dataclass(frozen=True)
class TrainingBatch:
    """B samples of Q frames, oldest first; K cameras.

    Attributes:
        images: (Q, B, K, H, W, 3) uint8 RGB; rows from `valid_height` on are padding. Or the files of Q * B
            frames, see `with_pixels`.
        lidar2img: (Q, B, K, 4, 4) float32; can_bus: (Q, B, 18) float64.
        targets: of the last frame. draws: of the augmentation; None: nothing is augmented.
        weight: what the gradient of the batch's mean loss is multiplied with.
    """

    images: Tensor | list[EncodedImages]
    lidar2img: Tensor
    can_bus: Tensor
    valid_height: int
    targets: BatchTargets
    draws: Draws | None = None
    weight: float = 1.0

    @classmethod
    def of(cls, batch: DrivingBatch) -> TrainingBatch:
        targets = BatchTargets.from_frames(batch.targets)
        return cls(batch.images, batch.lidar2img, batch.can_bus, batch.valid_height, targets)

    def pin_memory(self) -> TrainingBatch:
        """In page-locked memory, from which a GPU copies while it computes."""
        return _each(self, lambda part: part.pin_memory())

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Not blocking, where the memory is page-locked."""
        return _each(self, lambda part: part.to(device, non_blocking=True))

    def with_pixels(self) -> TrainingBatch:
        """Its files decoded where its other parts are."""
        if isinstance(self.images, Tensor):
            return self
        frames, device = [(frame, 0) for frame in self.images], self.lidar2img.device
        decoded: list[Tensor] = []
        for start in range(0, len(frames), DECODED_TOGETHER):
            decoded += frames_on_device(frames[start : start + DECODED_TOGETHER], device, normalised=False)
        return dataclasses.replace(self, images=torch.stack(decoded).unflatten(0, self.lidar2img.shape[:2]))

    def tensors(self) -> list[Tensor]:
        """All of them, those of targets and draws too."""
        found: list[Tensor] = []
        _each(self, lambda part: found.append(part) or part)
        return found


def _each(value: T, change: Callable[[Tensor], Tensor]) -> T:
    """The dataclass with every tensor in it, at any depth, changed."""
    changes = {}
    for field in dataclasses.fields(value):  # ty: ignore[invalid-argument-type]
        part = getattr(value, field.name)
        if isinstance(part, Tensor):
            changes[field.name] = change(part)
        elif dataclasses.is_dataclass(part) and not isinstance(part, type):
            changes[field.name] = _each(part, change)
    return dataclasses.replace(value, **changes)  # ty: ignore[invalid-argument-type]


def _padded_index(counts: list[int]) -> Tensor:
    index = torch.zeros(len(counts), max(counts, default=0), dtype=torch.int64)
    start = 0
    for row, count in zip(index, counts):
        row[:count] = torch.arange(start, start + count)
        start += count
    return index
