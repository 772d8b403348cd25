"""Runs a base model over whole clips in lockstep: frame t of all clips is one batch. No Ray in here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.model.contract import BasePlanner, FrameBatch, PlannerOutput
from sead_ray.nuscenes.images import ImageGeometry, decode_frame, frame_lidar2img, image_geometry, normalise
from sead_ray.nuscenes.sequence import can_bus_deltas
from sead_ray.records import Clip
from sead_ray.storage import Store


@dataclass(frozen=True)
class LoadedClip:
    """A clip with its decoded images: (T, 6, H, W, 3) uint8 RGB, padded; rows from `valid_height` on are padding."""

    clip: Clip
    images: NDArray[np.uint8]
    geometry: ImageGeometry


def load_clip(clip: Clip, data_root: str, image: ImageConfig) -> LoadedClip:
    """Decodes all images of a clip.

    Raises:
        InputError: an image is missing, truncated, or of another size than the table says; names it.
    """
    geometry = image_geometry(clip.frames[0], image)
    store = Store(data_root)
    frames = [decode_frame(store, frame, image)[0] for frame in clip.frames]
    return LoadedClip(clip, np.stack(frames), geometry)


def run_clips(
    model: BasePlanner, clips: Sequence[LoadedClip], device: str
) -> Iterator[tuple[int, list[int], PlannerOutput]]:
    """Yields (t, indices of the clips that have a frame t, the model's output for them), t ascending.

    A clip's result does not depend on its neighbours; shorter clips leave the batch when they end.
    """
    inputs = [_ClipInputs.of(loaded) for loaded in clips]
    lengths = [len(loaded.clip.frames) for loaded in clips]
    history: Tensor | None = None
    active = list(range(len(clips)))
    for t in range(max(lengths, default=0)):
        alive = [row for row, index in enumerate(active) if lengths[index] > t]
        if history is not None and len(alive) < len(active):
            history = history[alive]
        active = [active[row] for row in alive]
        with torch.inference_mode():
            output = model(_batch([inputs[index] for index in active], t, device), history)
        history = output.bev
        yield t, active, output


@dataclass(frozen=True)
class _ClipInputs:
    images: NDArray[np.uint8]
    valid_height: int
    lidar2img: NDArray[np.float32]  # (T, 6, 4, 4)
    can_bus: NDArray[np.float64]  # (T, 18)

    @classmethod
    def of(cls, loaded: LoadedClip) -> _ClipInputs:
        frames = loaded.clip.frames
        lidar2img = np.stack([frame_lidar2img(frame, loaded.geometry) for frame in frames])
        return cls(loaded.images, loaded.geometry.height, lidar2img, can_bus_deltas(frames))


def _batch(inputs: list[_ClipInputs], t: int, device: str) -> FrameBatch:
    images = torch.from_numpy(np.stack([item.images[t] for item in inputs])).to(device)
    return FrameBatch(
        images=normalise(images, inputs[0].valid_height),
        lidar2img=torch.from_numpy(np.stack([item.lidar2img[t] for item in inputs])).to(device),
        can_bus=torch.from_numpy(np.stack([item.can_bus[t] for item in inputs])).to(device),
    )
