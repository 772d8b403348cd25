"""Runs a base model over whole clips in lockstep: frame t of all clips is one batch. No Ray in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.model.contract import BasePlanner, FrameBatch, PlannerOutput
from sead_ray.nuscenes.encoded_images import EncodedImages, read_encoded
from sead_ray.nuscenes.images import ImageGeometry, decode_frame, frame_lidar2img, image_geometry
from sead_ray.nuscenes.sequence import can_bus_deltas
from sead_ray.records import CAMERAS, Clip
from sead_ray.stages.frame_feed import ClipArrays, DeviceFrame, FrameFeed
from sead_ray.storage import Store


@dataclass(frozen=True)
class LoadedClip:
    """A clip with its images.

    Attributes:
        images: (T, 6, H, W, 3) uint8 RGB, padded, in one array or one a frame; rows from `geometry.height` on are
            padding. Or the files, which the device decodes.
        decode_s: seconds that decoding, or reading, took.
    """

    clip: Clip
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8] | EncodedImages
    geometry: ImageGeometry
    decode_s: float = 0.0

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The decoded images; only of a clip whose images are decoded, into one array."""
        assert isinstance(self.images, np.ndarray)
        return self.images

    @cached_property
    def arrays(self) -> ClipArrays:
        """What the model sees of the clip; computed once, and pickled with it, so that decoders can do it."""
        frames = self.clip.frames
        return ClipArrays(
            images=self.images,
            lidar2img=np.stack([frame_lidar2img(frame, self.geometry) for frame in frames]),
            can_bus=can_bus_deltas(frames),
            commands=np.array([int(frame.command) for frame in frames], np.int64),
            valid_height=self.geometry.height,
        )

    def without_cameras(self) -> LoadedClip:
        """The same, with `arrays` computed: nobody behind the decoder asks for the cameras, and they are nearly all of
        what a clip is pickled to."""
        frames = tuple(replace(frame, cameras=()) for frame in self.clip.frames)
        light = replace(self, clip=replace(self.clip, frames=frames))
        light.__dict__["arrays"] = self.arrays
        return light

    def with_images(self, images: Sequence[NDArray[np.uint8]]) -> LoadedClip:
        """The same with other images; what is known of `arrays` stays."""
        other = replace(self, images=images)
        if "arrays" in self.__dict__:
            other.__dict__["arrays"] = replace(self.arrays, images=images)
        return other


def load_clip(clip: Clip, data_root: str, image: ImageConfig) -> LoadedClip:
    """Decodes all images of a clip into one array.

    Raises:
        InputError: an image is missing, truncated, or of another size than the table says; names it.
    """
    started = time.perf_counter()
    geometry = image_geometry(clip.frames[0], image)
    store = Store(data_root)
    shape = (len(clip.frames), len(CAMERAS), geometry.padded_height, geometry.width, 3)
    images = np.empty(shape, np.uint8)
    for frame, out in zip(clip.frames, images):
        decode_frame(store, frame, image, out)
    return LoadedClip(clip, images, geometry, time.perf_counter() - started)


def load_encoded_clip(clip: Clip, data_root: str, image: ImageConfig) -> LoadedClip:
    """The same with the images left as files.

    Raises:
        InputError: an image is missing, truncated, or of another size than the table says; names it.
    """
    geometry = image_geometry(clip.frames[0], image)
    started = time.perf_counter()
    images = read_encoded(clip.frames, Store(data_root), image, geometry)
    return LoadedClip(clip, images, geometry, time.perf_counter() - started)


class ClipBatch(Sequence[LoadedClip]):
    """Clips that go through a model together; their first frames are on the way to the device from the start.

    Use as a context manager. The batch has `rows` rows on the device at every step, where that is given: rows without
    a clip repeat another's input, so that shapes never change. Else it has as many rows as clips are left.
    """

    def __init__(self, clips: Sequence[LoadedClip], device: str, rows: int | None = None) -> None:
        self._clips = list(clips)
        self.feed = FrameFeed([clip.arrays for clip in clips], device, rows)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: Any) -> Any:
        return self._clips[index]

    def __enter__(self) -> ClipBatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.close()


def run_clips(
    model: BasePlanner, clips: Sequence[LoadedClip], device: str, mark: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[int, list[int], PlannerOutput]]:
    """Yields (t, indices of the clips that have a frame t, the model's output for them), t ascending.

    A clip's result does not depend on its neighbours; shorter clips leave the batch when they end. On a GPU nothing
    waits for the device here: the next frames are copied beside the computation, and an output may still be under way
    when it is yielded. An output is valid until the next one is asked for.

    Args:
        mark: called behind each part of a step with its name: wait (for the frame), model, and work (what was done
            with the output).
    """
    if not clips:
        return
    if not isinstance(clips, ClipBatch):
        with ClipBatch(clips, device) as batch:
            yield from run_clips(model, batch, device, mark)
        return
    history: Tensor | None = None
    for frame in clips.feed:
        mark("wait")
        step = frame.step
        if history is not None and step.kept is not None:
            history = history[step.kept]
        with torch.inference_mode():
            output = run_step(model, frame, history)
            history = output.bev
            seen = output if len(step.active) == len(step.sources) else rows_of(output, step.active_rows)
        mark("model")
        yield step.t, step.active, seen
        mark("work")


def run_step(model: BasePlanner, frame: DeviceFrame, history: Tensor | None) -> PlannerOutput:
    """One step of a batch that is on the device."""
    return model(FrameBatch(frame.images, frame.lidar2img, frame.can_bus), history)


# Axes of an output's tensors that stand before its clips: L decoder layers.
_LAYERED = ("class_logits", "boxes", "map_class_logits", "map_boxes", "map_points")


def rows_of(output: PlannerOutput, rows: Sequence[int]) -> PlannerOutput:
    """A part of the batch. Row by row, since an index would have to be brought to the device."""
    parts = {}
    for item in fields(output):
        value, axis = getattr(output, item.name), int(item.name in _LAYERED)
        parts[item.name] = torch.stack([value.select(axis, row) for row in rows], dim=axis)
    return type(output)(**parts)
