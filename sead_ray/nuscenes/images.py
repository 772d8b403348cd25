"""Camera images on their way to the network: JPEG bytes, resized uint8, normalised float."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.geometry import image_from_lidar
from sead_ray.image_keys import read_image
from sead_ray.records import Camera, Frame
from sead_ray.storage import Store

try:
    import simplejpeg
except ImportError:  # PIL decodes the same pixels, more slowly
    simplejpeg = None

SIZE_DIVISOR = 32  # VAD: PadMultiViewImage
MEAN_RGB = (123.675, 116.28, 103.53)  # VAD: img_norm_cfg
STD_RGB = (58.395, 57.12, 57.375)

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class ImageGeometry:
    """Sizes in pixels of one camera image, as recorded and as the network sees it.

    Attributes:
        source_width, source_height: as recorded.
        scale: resize factor, the same for both axes.
        width, height: after the resize; rows `height` to `padded_height` are padding.
        padded_height: `height` rounded up to a multiple of 32.
    """

    source_width: int
    source_height: int
    scale: float
    width: int
    height: int
    padded_height: int


def image_geometry(frame: Frame, config: ImageConfig) -> ImageGeometry:
    """Geometry shared by the six images of a frame; `InputError` where they differ in size."""
    sizes = {(camera.width, camera.height) for camera in frame.cameras}
    if len(sizes) != 1:
        raise InputError(f"The cameras of frame {frame.token} differ in image size: {sorted(sizes)}.")
    if config.width % SIZE_DIVISOR:
        raise InputError(f"image.width is {config.width}, but must be a multiple of {SIZE_DIVISOR}.")
    source_width, source_height = sizes.pop()
    scale = config.width / source_width
    height = max(1, round(source_height * scale))
    padded = -(-height // SIZE_DIVISOR) * SIZE_DIVISOR
    return ImageGeometry(source_width, source_height, scale, config.width, height, padded)


def frame_lidar2img(frame: Frame, geometry: ImageGeometry) -> NDArray[np.float32]:
    """(6, 4, 4) lidar points to pixels of the resized images; the large global coordinates cancel in float64."""
    at_lidar = frame.global_from_ego.matrix, frame.ego_from_lidar.matrix
    return np.stack([_lidar2img(camera, *at_lidar, geometry.scale) for camera in frame.cameras]).astype(np.float32)


def _lidar2img(
    camera: Camera, global_from_ego: NDArray[np.float64], ego_from_lidar: NDArray[np.float64], scale: float
) -> NDArray[np.float64]:
    return image_from_lidar(
        camera.intrinsics,
        camera.ego_from_camera.matrix,
        camera.global_from_ego.matrix,
        global_from_ego,
        ego_from_lidar,
        scale,
    )


def decode_frame(store: Store, frame: Frame, config: ImageConfig, out: Images | None = None) -> tuple[Images, int]:
    """The six images of a frame from the data root: ((6, padded_height, width, 3) uint8 RGB, valid height).

    Args:
        out: where they are written, instead of a new array.

    Raises:
        InputError: names the key of an image that is missing, empty, truncated, no JPEG, or of another size.
    """
    keys = [camera.key for camera in frame.cameras]
    return decode_images([read_image(store, key) for key in keys], keys, image_geometry(frame, config), config, out)


def decode_images(
    encoded: Sequence[bytes],
    keys: Sequence[str],
    geometry: ImageGeometry,
    config: ImageConfig,
    out: Images | None = None,
) -> tuple[Images, int]:
    """The same from bytes at hand; `keys` name them in errors."""
    shape = (len(encoded), geometry.padded_height, geometry.width, 3)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape:
        raise ValueError(f"images of shape {shape} do not fit into {out.shape}")
    out[:, geometry.height :] = 0
    for image, data, key in zip(out, encoded, keys, strict=True):
        _decode_into(image[: geometry.height], data, key, geometry, reduced=config.decode == "dct")
    return out, geometry.height


def image_fault(store: Store, key: str, width: int, height: int) -> str | None:
    """Why the image cannot be used, in one sentence; None where it decodes to its end and has the table's size.

    libjpeg reads every coefficient whatever the scale it decodes to, so the smallest does.
    """
    geometry = ImageGeometry(width, height, 1 / 8, max(1, width // 8), max(1, height // 8), 0)
    try:
        out = np.empty((geometry.height, geometry.width, 3), np.uint8)
        _decode_into(out, read_image(store, key), key, geometry, reduced=True)
    except InputError as error:
        return str(error)
    return None


def normalise(images: Tensor, valid_height: int) -> Tensor:
    """(..., H, W, 3) uint8 RGB to (..., 3, H, W) float32 by VAD's mean and deviation, on the images' device.

    Padding is 0 after the normalisation. VAD normalises before it resizes; on uint8 the resize rounds to whole
    levels, at most half of one in 255.
    """
    mean, std = _mean_and_std(images.device)
    planes = images.movedim(-1, -3)
    normalised = torch.empty(planes.shape, dtype=torch.float32, device=images.device).copy_(planes)
    normalised.sub_(mean).div_(std)  # in place: on a CPU this costs as much as the decode otherwise
    normalised[..., valid_height:, :] = 0
    return normalised


@lru_cache(maxsize=8)
def _mean_and_std(device: torch.device) -> tuple[Tensor, Tensor]:
    """(3, 1, 1) each; kept, since bringing a constant to a GPU waits for everything under way there."""
    with torch.inference_mode(False):
        mean, std = torch.tensor([MEAN_RGB, STD_RGB], dtype=torch.float32, device=device)[..., None, None]
    return mean, std


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) from a JPEG's header."""
    if simplejpeg is not None:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        return int(height), int(width)
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.height, image.width


def require_size(data: bytes, key: str, geometry: ImageGeometry) -> None:
    """Looks at the header alone.

    Raises:
        InputError: the image is empty, no JPEG, or of another size than recorded.
    """
    if not data:
        raise InputError(f"Image {key} is empty.")
    try:
        size = jpeg_size(data)
    except (ValueError, OSError, SyntaxError) as error:  # PIL reports broken files by either
        raise InputError(f"Image {key} is not a whole JPEG ({error}).") from None
    if size != (geometry.source_height, geometry.source_width):
        raise InputError(
            f"Image {key} is {size[1]} x {size[0]} pixels, but its table says "
            f"{geometry.source_width} x {geometry.source_height}."
        )


def _decode_into(out: Images, data: bytes, key: str, geometry: ImageGeometry, reduced: bool) -> None:
    """Resized RGB into `out`, (height, width, 3). `reduced`: libjpeg scales while decoding, to no less than that."""
    require_size(data, key, geometry)  # before the pixels get their memory
    try:
        image = (_simplejpeg if simplejpeg is not None else _pillow)(data, geometry, reduced)
    except (ValueError, OSError, SyntaxError) as error:
        raise InputError(f"Image {key} is not a whole JPEG ({error}).") from None
    if image.shape == out.shape:
        out[:] = image
    else:
        cv2.resize(image, (geometry.width, geometry.height), dst=out, interpolation=cv2.INTER_LINEAR)


def _simplejpeg(data: bytes, geometry: ImageGeometry, reduced: bool) -> Images:
    """A view of the thread's scratch memory, good until its next image: fresh memory would cost a page fault a page."""
    assert simplejpeg is not None
    min_height, min_width = (geometry.height, geometry.width) if reduced else (0, 0)
    n_bytes = geometry.source_height * geometry.source_width * 3
    if getattr(_scratch, "size", 0) < n_bytes:
        _scratch.memory, _scratch.size = np.empty(n_bytes, np.uint8), n_bytes
    return simplejpeg.decode_jpeg(
        data, colorspace="RGB", min_height=min_height, min_width=min_width, buffer=_scratch.memory
    )


_scratch = threading.local()


def _pillow(data: bytes, geometry: ImageGeometry, reduced: bool) -> Images:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        if reduced:
            image.draft("RGB", (geometry.width, geometry.height))
        return np.array(image.convert("RGB"))
