"""The torch Dataset of bought frames: a queue of images up to each, and its targets."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.encoded_images import EncodedImages, read_encoded
from sead_ray.nuscenes.images import ImageGeometry, Images, decode_frame, frame_lidar2img, image_geometry
from sead_ray.nuscenes.map_targets import draw_orders, equivalent_orders
from sead_ray.nuscenes.sequence import can_bus_deltas, queue_indices
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import Clip, Frame, FrameLabels
from sead_ray.storage import Store
from sead_ray.targets import MAP_ORDERS, FrameTargets

T = TypeVar("T")


@dataclass
class DrivingSample:
    """A frame with its history, oldest first. Q = queue length, K = six cameras.

    Attributes:
        images: (Q, K, H, W, 3) uint8 RGB; rows from `valid_height` on are padding. Or each frame's files.
        lidar2img: (Q, K, 4, 4) float32.
        can_bus: (Q, 18) float64 with differences along the queue; the BEV is turned by its angle.
    """

    clip_token: str
    frame_index: int
    images: Images | list[EncodedImages]
    valid_height: int
    lidar2img: NDArray[np.float32]
    can_bus: NDArray[np.float64]
    targets: FrameTargets


@dataclass
class QueueStep:
    """One step of the queue for B samples: what a `FrameBatch` needs, images not yet normalised.

    Attributes:
        images: (B, K, H, W, 3) uint8 RGB; `valid_height`: rows that are no padding.
        lidar2img: (B, K, 4, 4) float32; can_bus: (B, 18) float64.
    """

    images: Tensor
    valid_height: int
    lidar2img: Tensor
    can_bus: Tensor


@dataclass
class DrivingBatch:
    """B samples: steps of the queue oldest first, the last is the frame that `targets` belong to.

    Attributes:
        images: (Q, B, K, H, W, 3) uint8 RGB, or the files of each of Q * B frames in this order; `valid_height`: rows
            that are no padding.
        lidar2img: (Q, B, K, 4, 4) float32; can_bus: (Q, B, 18) float64.
    """

    images: Tensor | list[EncodedImages]
    valid_height: int
    lidar2img: Tensor
    can_bus: Tensor
    targets: list[FrameTargets]

    @property
    def steps(self) -> list[QueueStep]:
        """Views of each step of a batch whose images are decoded."""
        assert isinstance(self.images, Tensor)
        parts = zip(self.images, self.lidar2img, self.can_bus)
        return [QueueStep(images, self.valid_height, lidar2img, can_bus) for images, lidar2img, can_bus in parts]


@dataclass(frozen=True)
class DecodedFrame:
    """What a frame's images come to: (6, H, W, 3) uint8 or files, rows that are no padding, (6, 4, 4) lidar2img."""

    images: Images | EncodedImages
    valid_height: int
    lidar2img: NDArray[np.float32]


# Targets, and every order of each map line, of which the targets hold at most 19.
CachedTargets = tuple[FrameTargets, list[NDArray[np.float64]]]


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
        cache_targets: samples whose targets are kept, about 0.1 MB each.
        encoded: images stay files, for a GPU to decode.
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
        cache_targets: int = 2000,
        encoded: bool = False,
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
        self.encoded = encoded
        self._queue_length = queue_length
        self._bought_only = targets == "bought_only"
        self._seed = seed
        self._epoch = 0
        self._cache_sizes = cache_frames, cache_targets
        self._frames: Cache[DecodedFrame] = Cache(cache_frames)
        self._targets: Cache[CachedTargets] = Cache(cache_targets)

    @property
    def image_geometry(self) -> ImageGeometry:
        """Of the first sample; a batch whose images differ is refused by `collate`."""
        clip, index = self.samples[0]
        return image_geometry(clip.frames[index], self._image)

    @property
    def fits_in_cache(self) -> bool:
        """Whether every frame that samples draw on, history included, can stay decoded."""
        reach = range(self._queue_length + 1)
        frames = {(clip.clip_token, max(0, index - back)) for clip, index in self.samples for back in reach}
        return len(frames) <= self._cache_sizes[0]

    def split_cache(self, parts: int) -> DrivingDataset:
        """The same samples with that part of the memory, for each of several processes."""
        part = copy.copy(self)
        part._frames, part._targets = (Cache(size // parts) for size in self._cache_sizes)
        return part

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's random draws; before the loader's workers start, as they hold a copy."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> DrivingSample:
        return self.sample(self._epoch, index)

    def sample(self, epoch: int, index: int) -> DrivingSample:
        """Sample `index` with the draws of `epoch`: for workers that live longer than an epoch."""
        clip, frame_index = self.samples[index]
        rng = np.random.default_rng([self._seed, epoch, index])
        frames = [clip.frames[i] for i in queue_indices(frame_index, self._queue_length, rng)]
        decoded = [self._frames.get(frame.token, lambda frame=frame: self._decode(frame)) for frame in frames]
        return DrivingSample(
            clip_token=clip.clip_token,
            frame_index=frame_index,
            images=_queue([item.images for item in decoded]),
            valid_height=decoded[-1].valid_height,
            lidar2img=np.stack([item.lidar2img for item in decoded]),
            can_bus=can_bus_deltas(frames),
            targets=self._drawn_targets(clip, frame_index, rng),
        )

    def _decode(self, frame: Frame) -> DecodedFrame:
        geometry = image_geometry(frame, self._image)
        lidar2img = frame_lidar2img(frame, geometry)
        if self.encoded:
            return DecodedFrame(read_encoded([frame], self._store, self._image, geometry), geometry.height, lidar2img)
        return DecodedFrame(*decode_frame(self._store, frame, self._image), lidar2img)

    def _drawn_targets(self, clip: Clip, frame_index: int, rng: np.random.Generator) -> FrameTargets:
        """Targets are computed once; only the choice among a closed line's many orders is drawn anew."""
        token = clip.frames[frame_index].token
        targets, orders = self._targets.get(token, lambda: self._build(clip, frame_index))
        if all(len(line) <= MAP_ORDERS for line in orders):
            return targets
        return replace(targets, map_points=draw_orders(orders, rng))

    def _build(self, clip: Clip, frame_index: int) -> CachedTargets:
        bought = self._bought[clip.clip_token] if self._bought_only else None
        targets = build_targets(clip, frame_index, self._labels, bought)
        vectors = self._labels[clip.frames[frame_index].token].map_vectors
        return targets, [equivalent_orders(vector.points_m) for vector in vectors]


def collate(samples: Sequence[DrivingSample]) -> DrivingBatch:
    """Samples as a batch; `InputError` where their images differ in size."""
    if len({_image_size(sample) for sample in samples}) != 1:
        names = ", ".join(sorted({sample.clip_token for sample in samples}))
        raise InputError(f"The images of clips {names} differ in size, so they cannot share a batch.")
    return DrivingBatch(
        images=_batch([sample.images for sample in samples]),
        valid_height=samples[0].valid_height,
        lidar2img=torch.from_numpy(np.stack([sample.lidar2img for sample in samples], axis=1)),
        can_bus=torch.from_numpy(np.stack([sample.can_bus for sample in samples], axis=1)),
        targets=[sample.targets for sample in samples],
    )


def _image_size(sample: DrivingSample) -> Any:
    """As the network sees them: cameras of several resolutions may share a batch."""
    images = sample.images
    if isinstance(images, list):
        return frozenset((part.geometry.padded_height, part.geometry.width) for part in images), sample.valid_height
    return images.shape, sample.valid_height


def _queue(frames: Sequence[Images | EncodedImages]) -> Images | list[EncodedImages]:
    encoded = [frame for frame in frames if isinstance(frame, EncodedImages)]
    return encoded or np.stack([frame for frame in frames if not isinstance(frame, EncodedImages)])


def _batch(queues: Sequence[Images | list[EncodedImages]]) -> Tensor | list[EncodedImages]:
    encoded = [queue for queue in queues if isinstance(queue, list)]
    if encoded:
        return [frame for step in zip(*encoded) for frame in step]
    return torch.from_numpy(np.stack([queue for queue in queues if not isinstance(queue, list)], axis=1))


class Cache(Generic[T]):
    """Least recently used values, shared by a process's loader threads. A pickled copy starts empty."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, make: Callable[[], T]) -> T:
        """The value of `key`, made outside the lock where it is not there (two threads may then both make it)."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        value = make()
        with self._lock:
            self._entries[key] = value
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return Cache, (self._capacity,)
