"""Images of a request before they are decoded: each is there once, small enough, of the clip's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

from sead_ray.config import ServeConfig
from serve.errors import ApiError
from serve.jpeg_header import JpegHeader, read_header
from serve.schemas import CameraIn

Named = Sequence[tuple[CameraIn, str]]  # cameras and their field paths
MIN_SIDE = 16
TOGETHER = 16  # images that a thread looks at before it hands over
FOCAL_RANGE = (0.05, 50.0)  # of the image's width: 169 degrees to 1 degree of view
Size = tuple[int, int]


def check_references(cameras: Named, images: Mapping[str, bytes]) -> None:
    """Every camera has an image of its own, and every image a camera."""
    used: set[str] = set()
    for camera, field in cameras:
        shown = camera.image[:200]
        if camera.image not in images:
            raise ApiError(422, f"There is no images part with the file name {shown!r}.", f"{field}.image")
        if camera.image in used:
            raise ApiError(422, f"The images part {shown!r} is named by two cameras.", f"{field}.image")
        used.add(camera.image)
    if unused := sorted(set(images) - used):
        raise ApiError(422, f"No camera names the images part {unused[0][:200]!r}.", "images")


def common_size(
    cameras: Named,
    images: Mapping[str, bytes],
    limits: ServeConfig,
    common: Size | None = None,
    pool: ThreadPoolExecutor | None = None,
    to_end: bool = True,
) -> Size:
    """(width, height) that the headers of all images agree on, and their cameras where they say so.

    Args:
        common: what they must agree with, such as the frames before.
        pool: its threads share the work; None: this thread does it.
        to_end: of each file; else its pixels are left to `check_to_end`.
    """
    parts = [cameras[start : start + TOGETHER] for start in range(0, len(cameras), TOGETHER)]
    sizes = (pool.map if pool else map)(partial(_sizes, images=images, limits=limits, to_end=to_end), parts)
    for (camera, field), size in zip(cameras, chain.from_iterable(sizes)):
        said = (camera.width or size[0], camera.height or size[1])
        common = common or size
        for expected, source in ((said, "its camera says"), (common, "the clip's first has")):
            if size != expected:
                sizes = f"{size[0]} x {size[1]} pixels, while {source} {expected[0]} x {expected[1]}"
                raise ApiError(422, f"Image {camera.image[:200]!r} is {sizes}.", f"{field}.image")
        _check_intrinsics(camera, size, f"{field}.intrinsics")
    assert common is not None
    return common


def check_to_end(camera: CameraIn, field: str, data: bytes) -> None:
    """That the file is one JPEG of few scans and nothing else. Raises `ApiError` 422."""
    _header(data, camera.image[:200], f"{field}.image", to_end=True)


def _sizes(cameras: Named, images: Mapping[str, bytes], limits: ServeConfig, to_end: bool) -> list[Size]:
    return [
        _size(images[camera.image], camera.image[:200], f"{field}.image", limits, to_end) for camera, field in cameras
    ]


def _header(data: bytes, name: str, field: str, to_end: bool) -> JpegHeader:
    try:
        return read_header(data, to_end)
    except ValueError as error:
        raise ApiError(422, f"Image {name!r} {error}.", field) from None


def _size(data: bytes, name: str, field: str, limits: ServeConfig, to_end: bool) -> Size:
    header = _header(data, name, field, to_end)
    width, height = header.width, header.height
    if width * height > limits.max_image_pixels:
        sentence = f"is {width} x {height} pixels; the limit is {limits.max_image_pixels} in all"
    elif max(width, height) > limits.max_image_side or min(width, height) < MIN_SIDE:
        sentence = f"is {width} x {height} pixels; a side has {MIN_SIDE} to {limits.max_image_side}"
    else:
        return width, height
    raise ApiError(422, f"Image {name!r} {sentence}.", field)


def _check_intrinsics(camera: CameraIn, size: Size, field: str) -> None:
    """A lens that no camera of this image size has: most often those of another resolution."""
    (focal_x, _, center_x), (_, focal_y, center_y), _ = camera.intrinsics
    least, most = (factor * size[0] for factor in FOCAL_RANGE)
    if not (least <= focal_x <= most and least <= focal_y <= most):
        raise ApiError(
            422, f"{field}: a focal length outside {least:g} to {most:g} pixels is absurd at this size.", field
        )
    if not (-size[0] <= center_x <= 2 * size[0] and -size[1] <= center_y <= 2 * size[1]):
        raise ApiError(422, f"{field}: the principal point lies far outside the image.", field)
