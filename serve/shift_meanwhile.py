"""Feature shifts of clips while the model goes on with their later frames: the answer need not wait for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any

import torch

from sead_ray.config import ScoreConfig
from sead_ray.records import Clip
from sead_ray.scoring.features import FrameFeatures, PackedFeatures, unpack_features
from sead_ray.scoring.shift import ClipShifts, extended_shifts
from sead_ray.stages.clip_runner import LoadedClip

ClipResult = tuple[Clip, list[FrameFeatures], ClipShifts | None]


class ShiftMeanwhile:
    """Takes each frame's features from the device and extends the shifts of its clips, in a thread of its own.

    Use as a context manager; leaving it ends the thread, whatever it has not done yet.
    """

    def __init__(self, clips: Sequence[LoadedClip], device: str, config: ScoreConfig) -> None:
        self._clips, self._config = [loaded.clip for loaded in clips], config
        self._features: list[list[FrameFeatures]] = [[] for _ in clips]
        self._shifts: list[ClipShifts | None] = [None] * len(clips)
        self._is_finite = [True] * len(clips)
        self._stream = torch.cuda.Stream(torch.device(device)) if device.startswith("cuda") else None
        self._given: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._is_left = False
        self._thread = threading.Thread(target=self._work, name="shift-meanwhile", daemon=True)
        self._thread.start()

    def __enter__(self) -> ShiftMeanwhile:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_left = True
        self._given.put(None)
        self._thread.join()

    def take(self, active: Sequence[int], packed: PackedFeatures) -> None:
        """The next frame of the clips `active`; the device may still be at it."""
        ready = None
        if self._stream is not None:
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(self._stream.device))
        self._given.put((active, packed, ready))

    def results(self) -> list[ClipResult]:
        """Once no further frame comes. The shifts are None of a clip with features that are not finite."""
        self._given.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return list(zip(self._clips, self._features, self._shifts))

    def _work(self) -> None:
        try:
            while not self._is_left and (given := self._given.get()) is not None:
                active, packed, ready = given
                for index, features in zip(active, self._on_host(packed, ready)):
                    self._add(index, features)
        except BaseException as error:  # raised where the results are asked for
            self._error = error

    def _on_host(self, packed: PackedFeatures, ready: Any) -> list[FrameFeatures]:
        if self._stream is None:
            return unpack_features(packed.flat.numpy(), packed.shapes)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(ready)
            packed.flat.record_stream(self._stream)  # its memory was taken on the model's stream
            return unpack_features(packed.flat.cpu().numpy(), packed.shapes)

    def _add(self, index: int, features: FrameFeatures) -> None:
        frames = self._features[index]
        frames.append(features)
        self._is_finite[index] &= features.is_finite()
        if not self._is_finite[index]:
            self._shifts[index] = None
            return
        stamps = [frame.timestamp_us for frame in self._clips[index].frames[: len(frames)]]
        self._shifts[index] = extended_shifts(self._shifts[index], frames, stamps, self._config)
