"""The torch Dataset of bought frames: a queue of images up to each, and its targets."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.images import Images, decode_frame, frame_lidar2img, image_geometry
from sead_ray.nuscenes.sequence import can_bus_deltas, queue_indices
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import Clip, Frame, FrameLabels
from sead_ray.storage import Store
from sead_ray.targets import FrameTargets


@dataclass
class DrivingSample:
    """A frame with its history, oldest first. Q = queue length, K = six cameras.

    Attributes:
        images: (Q, K, H, W, 3) uint8 RGB; rows from `valid_height` on are padding.
        lidar2img: (Q, K, 4, 4) float32.
        can_bus: (Q, 18) float32 with differences along the queue.
    """

    clip_token: str
    frame_index: int
    images: Images
    valid_height: int
    lidar2img: NDArray[np.float32]
    can_bus: NDArray[np.float32]
    targets: FrameTargets


@dataclass
class QueueStep:
    """One step of the queue for B samples: what a `FrameBatch` needs, images not yet normalised.

    Attributes:
        images: (B, K, H, W, 3) uint8 RGB; `valid_height`: rows that are no padding.
        lidar2img: (B, K, 4, 4) float32; can_bus: (B, 18) float32.
    """

    images: Tensor
    valid_height: int
    lidar2img: Tensor
    can_bus: Tensor


@dataclass
class DrivingBatch:
    """B samples: queue steps oldest first, the last is the frame that `targets` belong to."""

    steps: list[QueueStep]
    targets: list[FrameTargets]


class DrivingDataset(Dataset[DrivingSample]):
    """Samples (clip, frame) of every bought frame, ordered by clip as given, then by frame.

    A sample depends on (seed, epoch, its index) alone, whatever the number of threads or workers. History may lie
    outside the bought frames: it costs no label.

    Args:
        clips: the clips that `bought` names, in the order of the samples.
        bought: clip token -> indices of its bought frames.
        labels: frame token -> labels; of every bought frame at least.
        data_root: where the image keys lie.
        image: size and decoder.
        queue_length: images of a sample, the current one included.
        targets: "bought_only" reads no label outside the bought frames; "as_paper" takes all of `labels`.
        seed: of the queue's draw and of the map's orders.
        cache_frames: decoded frames kept in memory for each process (0: none).
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        bought: Mapping[str, Sequence[int]],
        labels: Mapping[str, FrameLabels],
        data_root: str,
        image: ImageConfig,
        queue_length: int,
        targets: Literal["bought_only", "as_paper"] = "bought_only",
        seed: int = 0,
        cache_frames: int = 0,
    ) -> None:
        if unknown := sorted(set(bought) - {clip.clip_token for clip in clips}):
            raise InputError(f"Frames of clip {unknown[0]} were bought, but the pool has no such clip.")
        self.samples: list[tuple[Clip, int]] = []
        self._bought: dict[str, frozenset[str]] = {}
        for clip in clips:
            indices = sorted(set(bought.get(clip.clip_token, ())))
            if indices and not 0 <= indices[0] <= indices[-1] < len(clip.frames):
                raise InputError(f"Clip {clip.clip_token} has {len(clip.frames)} frames, but {indices} were bought.")
            self.samples += [(clip, index) for index in indices]
            self._bought[clip.clip_token] = frozenset(clip.frames[index].token for index in indices)
        self._labels = labels
        self._store = Store(data_root)
        self._image = image
        self._queue_length = queue_length
        self._bought_only = targets == "bought_only"
        self._seed = seed
        self._epoch = 0
        self._cache = FrameCache(cache_frames)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's random draws; before the loader's workers start, as they hold a copy."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DrivingSample:
        clip, frame_index = self.samples[index]
        rng = np.random.default_rng([self._seed, self._epoch, index])
        frames = [clip.frames[i] for i in queue_indices(frame_index, self._queue_length, rng)]
        decoded = [self._decode(frame) for frame in frames]
        bought = self._bought[clip.clip_token] if self._bought_only else None
        return DrivingSample(
            clip_token=clip.clip_token,
            frame_index=frame_index,
            images=np.stack([images for images, _ in decoded]),
            valid_height=decoded[-1][1],
            lidar2img=np.stack([frame_lidar2img(frame, image_geometry(frame, self._image)) for frame in frames]),
            can_bus=can_bus_deltas(frames).astype(np.float32),
            targets=build_targets(clip, frame_index, self._labels, bought, rng=rng),
        )

    def _decode(self, frame: Frame) -> tuple[Images, int]:
        found = self._cache.get(frame.token)
        if found is None:
            found = decode_frame(self._store, frame, self._image)
            self._cache.put(frame.token, found)
        return found


def collate(samples: Sequence[DrivingSample]) -> DrivingBatch:
    """Samples as a batch; `InputError` where their images differ in size."""
    if len({(sample.images.shape, sample.valid_height) for sample in samples}) != 1:
        names = ", ".join(sorted({sample.clip_token for sample in samples}))
        raise InputError(f"The images of clips {names} differ in size, so they cannot share a batch.")
    steps = [
        QueueStep(
            images=torch.from_numpy(np.stack([sample.images[step] for sample in samples])),
            valid_height=samples[0].valid_height,
            lidar2img=torch.from_numpy(np.stack([sample.lidar2img[step] for sample in samples])),
            can_bus=torch.from_numpy(np.stack([sample.can_bus[step] for sample in samples])),
        )
        for step in range(len(samples[0].images))
    ]
    return DrivingBatch(steps, [sample.targets for sample in samples])


class FrameCache:
    """Least recently used decoded frames, shared by a process's loader threads. A pickled copy starts empty."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, tuple[Images, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, token: str) -> tuple[Images, int] | None:
        with self._lock:
            if token in self._entries:
                self._entries.move_to_end(token)
            return self._entries.get(token)

    def put(self, token: str, value: tuple[Images, int]) -> None:
        with self._lock:
            self._entries[token] = value
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameCache, (self._capacity,)
