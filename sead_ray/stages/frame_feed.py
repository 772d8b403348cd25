"""Brings the frames of a batch of clips to the device, a few ahead of the computation, in a thread of its own.

On a GPU a frame is gathered in pinned memory and copied on a stream beside the computation's, where images that are
still files are decoded too; on a CPU it is gathered. Images arrive normalised.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.nuscenes.device_images import frames_on_device
from sead_ray.nuscenes.encoded_images import EncodedImages
from sead_ray.nuscenes.images import normalise

FRAMES_AHEAD = 6  # of the one that the device has finished: what Python's other threads may hold up


@dataclass(frozen=True)
class ClipArrays:
    """What a model sees of a clip of T frames.

    Attributes:
        images: (T, 6, H, W, 3) uint8 RGB, padding from row `valid_height` on; or the files, for the device to decode.
        lidar2img: (T, 6, 4, 4) float32, to pixels of `images`. can_bus: (T, 18) float64, differences where it must be.
        commands: (T,) int64.
    """

    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8] | EncodedImages
    lidar2img: NDArray[np.float32]
    can_bus: NDArray[np.float64]
    commands: NDArray[np.int64]
    valid_height: int


@dataclass(frozen=True)
class Step:
    """Which clips have a frame t, and where they are in the batch.

    Attributes:
        active: indices of the clips, ascending; active_rows: their rows.
        sources: the clip whose frame each row of the batch holds; a row without a clip repeats the first active one.
        kept: the rows of the step before that go on, where some do not.
    """

    t: int
    active: list[int]
    active_rows: list[int]
    sources: list[int]
    kept: list[int] | None


@dataclass
class DeviceFrame:
    """A step's inputs on the device: images (R, 6, 3, H, W) float32, normalised; lidar2img, can_bus."""

    step: Step
    images: Tensor
    lidar2img: Tensor
    can_bus: Tensor
    copied: Any = field(default=None, repr=False)  # CUDA event behind the copies


def lockstep(lengths: Sequence[int], rows: int | None = None) -> list[Step]:
    """Frame t of all clips that have one is step t.

    Args:
        lengths: frames of each clip.
        rows: of the batch at every step, at least as many as clips; None: as many as clips are left.
    """
    if rows is not None and rows < len(lengths):
        raise ValueError(f"{len(lengths)} clips do not fit into {rows} rows")
    steps = []
    before = list(range(len(lengths)))
    for t in range(max(lengths, default=0)):
        active = [index for index in before if lengths[index] > t]
        if rows is None:
            kept = None if active == before else [before.index(index) for index in active]
            steps.append(Step(t, active, list(range(len(active))), active, kept))
        else:
            sources = [index if index in active else active[0] for index in range(rows)]
            steps.append(Step(t, active, active, sources, None))
        before = active
    return steps


class FrameFeed:
    """Iterates once over the steps of the clips; `close` ends its thread early.

    Attributes:
        gather_s: seconds that its thread spent on gathering frames in host memory.
    """

    def __init__(self, clips: Sequence[ClipArrays], device: str, rows: int | None = None) -> None:
        self._clips, self._device = clips, torch.device(device)
        self._steps = lockstep([len(clip.images) for clip in clips], rows)
        self._on_gpu = self._device.type == "cuda"
        self._staged: queue.SimpleQueue[DeviceFrame | BaseException | None] = queue.SimpleQueue()
        # Tickets to stage one frame more: a free one, an event to wait for before, or False: stop.
        self._tickets: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(FRAMES_AHEAD):
            self._tickets.put(None)
        self.gather_s = 0.0
        self._thread = threading.Thread(target=self._fill, name="frame-feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[DeviceFrame]:
        while (frame := self._staged.get()) is not None:
            if isinstance(frame, BaseException):
                raise frame
            if not self._on_gpu:
                yield frame
                self._tickets.put(None)
                continue
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(frame.copied)
            for tensor in (frame.images, frame.lidar2img, frame.can_bus):
                tensor.record_stream(stream)  # its memory was taken on the copying stream
            yield frame
            finished = torch.cuda.Event()
            finished.record(torch.cuda.current_stream(self._device))
            del frame
            self._tickets.put(finished)

    def close(self) -> None:
        self._tickets.put(False)
        self._thread.join()

    def _fill(self) -> None:
        try:
            stream = torch.cuda.Stream(self._device) if self._on_gpu else None
            for step in self._steps:
                ticket = self._tickets.get()
                if ticket is False:
                    return
                if ticket is not None:
                    ticket.synchronize()
                self._staged.put(self._to_device(step, stream))
            self._staged.put(None)
        except BaseException as error:  # raised where the frame is asked for
            self._staged.put(error)

    def _to_device(self, step: Step, stream: Any) -> DeviceFrame:
        started = time.perf_counter()
        sources = [self._clips[index] for index in step.sources]
        decoded = [clip.images[step.t] for clip in sources if not isinstance(clip.images, EncodedImages)]
        pixels = self._gather(decoded) if decoded else None
        numbers = [self._gather([part[step.t] for part in parts]) for parts in _numbers(sources)]
        self.gather_s += time.perf_counter() - started
        if stream is None:
            images = self._decode(step) if pixels is None else normalise(pixels, sources[0].valid_height)
            return DeviceFrame(step, images, *numbers)
        with torch.inference_mode(), torch.cuda.stream(stream):
            # PyTorch reuses pinned memory only when the copies from it are done.
            lidar2img, can_bus = (tensor.to(self._device, non_blocking=True) for tensor in numbers)
            if pixels is None:
                images = self._decode(step)
            else:
                images = normalise(pixels.to(self._device, non_blocking=True), sources[0].valid_height)
            frame = DeviceFrame(step, images, lidar2img, can_bus)
            frame.copied = torch.cuda.Event()
            frame.copied.record(stream)
        return frame

    def _decode(self, step: Step) -> Tensor:
        """(R, 6, 3, H, W), each clip's files decoded once."""
        clips = list(dict.fromkeys(step.sources))
        frames = frames_on_device([(self._encoded(index), step.t) for index in clips], self._device)
        decoded = dict(zip(clips, frames))
        return torch.stack([decoded[index] for index in step.sources])

    def _encoded(self, index: int) -> EncodedImages:
        images = self._clips[index].images
        assert isinstance(images, EncodedImages)
        return images

    def _gather(self, arrays: Sequence[NDArray[Any]]) -> Tensor:
        """(R, ...) of R arrays, each copied once."""
        first = torch.from_numpy(np.empty(0, arrays[0].dtype))
        out = torch.empty((len(arrays), *arrays[0].shape), dtype=first.dtype, pin_memory=self._on_gpu)
        np.stack(arrays, out=out.numpy())
        return out


def _numbers(clips: Sequence[ClipArrays]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    return [clip.lidar2img for clip in clips], [clip.can_bus for clip in clips]
