"""One frame of one clip through a base model, its history given and returned: for clips that arrive frame by frame,
and for those too long to be held decoded. The same steps as `clip_runner.run_clips` with a batch of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ScoreConfig
from sead_ray.model.contract import FrameBatch
from sead_ray.nuscenes.images import ImageGeometry, frame_lidar2img, normalise
from sead_ray.nuscenes.sequence import can_bus_deltas
from sead_ray.records import Frame
from sead_ray.scoring.features import FrameFeatures, extract_features


@dataclass(frozen=True)
class FrameInput:
    """What the model sees of a frame.

    Attributes:
        images: (6, H, W, 3) uint8 RGB, padded from row `valid_height` on.
        lidar2img: (6, 4, 4) float32. can_bus: (18,) float64, differences to the frame before where it must be.
        command: for the planned path. ego_from_lidar: (4, 4).
    """

    images: NDArray[np.uint8]
    valid_height: int
    lidar2img: NDArray[np.float32]
    can_bus: NDArray[np.float64]
    command: int
    ego_from_lidar: NDArray[np.float64]


@dataclass(frozen=True)
class FrameStep:
    """What comes out: reduced features, and the history for the next frame, (1, Q, C) on the CPU."""

    features: FrameFeatures
    history: Tensor
    model_version: str


def frame_input(
    frame: Frame, before: Frame | None, images: NDArray[np.uint8], geometry: ImageGeometry, command: int
) -> FrameInput:
    """The model's input of `frame`, which follows `before` in its clip."""
    frames = [frame] if before is None else [before, frame]
    return FrameInput(
        images=images,
        valid_height=geometry.height,
        lidar2img=frame_lidar2img(frame, geometry),
        can_bus=can_bus_deltas(frames)[-1],
        command=command,
        ego_from_lidar=frame.ego_from_lidar.matrix,
    )


@torch.inference_mode()
def step_frame(
    model: Any, version: str, given: FrameInput, history: Tensor | None, device: str, config: ScoreConfig
) -> FrameStep:
    """Runs the frame; `history` is that of the frame before, None on a clip's first."""
    images, lidar2img, can_bus = (
        torch.from_numpy(np.ascontiguousarray(array))[None].to(device)
        for array in (given.images, given.lidar2img, given.can_bus)
    )
    frame = FrameBatch(normalise(images, given.valid_height), lidar2img, can_bus)
    output = model(frame, None if history is None else history.to(device))
    mounting = given.ego_from_lidar[None] if config.distance_from == "ego" else None
    bev_hw = model.bev_hw if config.bev_shift else None
    (features,) = extract_features(output, [given.command], config, mounting, bev_hw)
    # A copy: on a CPU too the output belongs to the model.
    return FrameStep(features, output.bev.detach().to("cpu", copy=True), version)
