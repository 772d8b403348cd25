"""Frames whose images are still JPEG files: what a GPU's decoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.image_keys import read_image
from sead_ray.nuscenes.images import ImageGeometry, image_fault, require_size
from sead_ray.records import CAMERAS, Frame
from sead_ray.storage import Store

END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class EncodedImages:
    """The files of T frames, six a frame, one after the other.

    Attributes:
        data: all bytes, (N,) uint8. ends: where each file ends, (T * 6,) int64. keys: of the files, to name them.
        geometry: of every image. config: how they become the network's.
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    keys: Sequence[str]
    geometry: ImageGeometry
    config: ImageConfig

    def __len__(self) -> int:
        return len(self.keys) // len(CAMERAS)

    def frame(self, t: int) -> tuple[list[NDArray[np.uint8]], Sequence[str]]:
        """The six files of frame t, and their keys."""
        numbers = range(t * len(CAMERAS), (t + 1) * len(CAMERAS))
        files = [self.data[(self.ends[k - 1] if k else 0) : self.ends[k]] for k in numbers]
        return files, self.keys[numbers.start : numbers.stop]


def read_encoded(frames: Sequence[Frame], store: Store, config: ImageConfig, geometry: ImageGeometry) -> EncodedImages:
    """Reads the frames' images from the data root without decoding them.

    A file that ends early decodes to half a picture on a GPU, without a word: what has no end is tried on the CPU.

    Raises:
        InputError: an image is missing, truncated, or of another size than the table says; names it.
    """
    keys = [camera.key for frame in frames for camera in frame.cameras]
    files = [read_image(store, key) for key in keys]
    for key, file in zip(keys, files):
        require_size(file, key, geometry)
        if not file.endswith(END_OF_IMAGE):
            fault = image_fault(store, key, geometry.source_width, geometry.source_height)
            if fault:
                raise InputError(fault)
    data = np.frombuffer(b"".join(files), np.uint8)
    return EncodedImages(data, np.cumsum([len(file) for file in files]), keys, geometry, config)
