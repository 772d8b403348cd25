"""Camera images decoded, resized and normalised on a GPU: its JPEG engine through torchvision, then one kernel.

The resize is OpenCV's of bytes, in the same whole numbers, so that only the decoder differs from the CPU's: nvJPEG
interpolates chroma otherwise than libjpeg does: a third of a level in the mean, ten along hard edges of colour.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.nuscenes.encoded_images import EncodedImages
from sead_ray.nuscenes.images import ImageGeometry, decode_images, normalise

COEFFICIENT_BITS = 11  # OpenCV's, of a weight of linear interpolation


def can_decode() -> bool:
    """Whether this process has a GPU whose driver and torchvision decode JPEGs. Tries it."""
    if not torch.cuda.is_available() or importlib.util.find_spec("torchvision") is None:
        return False
    try:
        _decode(torch.device("cuda"), _tensors([_small_picture()]))
    except (ImportError, AttributeError, RuntimeError):
        return False
    return True


def images_on_device(
    encoded: Sequence[NDArray[np.uint8]],
    keys: Sequence[str],
    geometry: ImageGeometry,
    config: ImageConfig,
    device: torch.device,
    normalised: bool = True,
) -> Tensor:
    """JPEG files (1-D uint8 each, of the size in `geometry`) to (N, 3, padded_height, width) float32, normalised.

    What nvJPEG refuses (CMYK, say) libjpeg decodes, as everything where the device is no GPU.

    Args:
        normalised: off for (N, padded_height, width, 3) uint8, which training distorts first.

    Raises:
        InputError: an image is not whole; names its key.
    """
    decoded = _decoded_there(encoded, geometry, device)
    if decoded is not None:
        return resize(decoded, geometry, normalised)
    pixels, valid_height = decode_images([data.tobytes() for data in encoded], keys, geometry, config)
    resized = torch.from_numpy(pixels).to(device)
    return normalise(resized, valid_height) if normalised else resized


def frames_on_device(
    frames: Sequence[tuple[EncodedImages, int]], device: torch.device, normalised: bool = True
) -> list[Tensor]:
    """Frame t of encoded images, for each (images, t): its six images as `images_on_device`; together where they are
    of one size."""
    sizes: dict[ImageGeometry, list[int]] = {}
    for number, (images, _) in enumerate(frames):
        sizes.setdefault(images.geometry, []).append(number)
    decoded: dict[int, Tensor] = {}
    for geometry, members in sizes.items():
        parts = [frames[number][0].frame(frames[number][1]) for number in members]
        files = [file for part in parts for file in part[0]]
        keys = [key for part in parts for key in part[1]]
        config = frames[members[0]][0].config
        found = images_on_device(files, keys, geometry, config, device, normalised)
        decoded.update(zip(members, found.unflatten(0, (len(members), -1))))
    return [decoded[number] for number in range(len(frames))]


def _decoded_there(
    encoded: Sequence[NDArray[np.uint8]], geometry: ImageGeometry, device: torch.device
) -> Tensor | None:
    """(N, 3, source_height, source_width) uint8; None where the device decodes nothing, or not these."""
    if device.type != "cuda":
        return None
    # torchvision decodes on a stream of its own, into memory that may still be read by what is queued here.
    torch.cuda.current_stream(device).synchronize()
    try:
        # RuntimeError: of a picture, here or where pictures of unequal size are stacked; or of the device, and then
        # what follows fails too.
        decoded = torch.stack(_decode(device, _tensors(encoded)))
    except RuntimeError:
        return None
    return decoded if tuple(decoded.shape[2:]) == (geometry.source_height, geometry.source_width) else None


def resize(images: Tensor, geometry: ImageGeometry, normalised: bool) -> Tensor:
    """(N, 3, source_height, source_width) uint8, by `cv2.resize` with INTER_LINEAR, to (N, padded_height, width, 3)
    uint8; or through `normalise` to (N, 3, padded_height, width) float32."""
    if _has_kernel(images.device):
        kernel = importlib.import_module("sead_ray.nuscenes.resize_triton")
        return kernel.resize(images, geometry, taps(geometry, images.device), normalised)
    rows, columns = taps(geometry, images.device)
    upper, lower = (_mix_columns(images.index_select(2, index), columns) for index in (rows.first, rows.second))
    top, bottom = (
        (part >> 4) * weight[:, None] >> 16 for part, weight in ((upper, rows.of_first), (lower, rows.of_second))
    )
    resized = torch.zeros(
        (len(images), geometry.padded_height, geometry.width, 3), dtype=torch.uint8, device=images.device
    )
    resized[:, : geometry.height] = ((top + bottom + 2) >> 2).movedim(1, -1).to(torch.uint8)
    return normalise(resized, geometry.height) if normalised else resized


def _has_kernel(device: torch.device) -> bool:
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _mix_columns(lines: Tensor, columns: Taps) -> Tensor:
    first, second = (lines.index_select(3, index).int() for index in (columns.first, columns.second))
    return first * columns.of_first + second * columns.of_second


@dataclass(frozen=True)
class Taps:
    """Along one axis of n pixels, which two of the source make a pixel, and their weights times 2048; (n,) int32."""

    first: Tensor
    second: Tensor
    of_first: Tensor
    of_second: Tensor


@lru_cache(maxsize=16)
def taps(geometry: ImageGeometry, device: torch.device) -> tuple[Taps, Taps]:
    """Of rows and of columns; kept on the device."""
    return (
        _axis_taps(geometry.source_height, geometry.height, device),
        _axis_taps(geometry.source_width, geometry.width, device),
    )


def _axis_taps(source: int, target: int, device: torch.device) -> Taps:
    """Pixel centres at i + 0.5, as OpenCV has them, weights rounded to whole 1/2048 each."""
    place = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    fraction = place - first
    outside = (first < 0) | (first >= source - 1)
    first, fraction = np.clip(first, 0, source - 1), np.where(outside, 0, fraction)
    one = 1 << COEFFICIENT_BITS
    weights = np.rint((1 - fraction) * one), np.rint(fraction * one)
    numbers = (first, np.minimum(first + 1, source - 1), *weights)
    with torch.inference_mode(False):
        return Taps(*(torch.from_numpy(number.astype(np.int32)).to(device) for number in numbers))


def _tensors(files: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
    """Parts of one copy: Ray's object store is read-only, and torch has no such tensors."""
    return list(torch.from_numpy(np.concatenate(files)).split([len(file) for file in files]))


def _decode(device: torch.device, files: list[Tensor]) -> list[Tensor]:
    """(3, height, width) uint8 RGB each."""
    io: Any = importlib.import_module("torchvision.io")
    return io.decode_jpeg(files, mode=io.ImageReadMode.RGB, device=device)


def _small_picture() -> NDArray[np.uint8]:
    return cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].ravel()
