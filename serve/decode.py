"""A checked clip to a decoded one, as the pool's clips reach the model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.config import ImageConfig, ServeConfig
from sead_ray.cpus import usable_cpus
from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import CanPoses, can_bus_vector
from sead_ray.nuscenes.commands import command_of, ego_future
from sead_ray.nuscenes.images import ImageGeometry, decode_images, image_geometry
from sead_ray.records import CAMERAS, Camera, Clip, Command, Frame
from sead_ray.stages.clip_runner import LoadedClip
from serve.errors import ApiError
from serve.image_check import check_to_end, common_size
from serve.schemas import CameraIn, ClipIn, FrameIn, MountIn, PoseIn
from serve.validate import clip_cameras

CanSource = Literal["given", "zeros"]
Keep = Callable[[NDArray[np.uint8]], Any]


@dataclass(frozen=True)
class CheckedClip:
    """A clip of which all is known but the pixels.

    Attributes:
        clip_in: as it was sent; images: JPEG bytes by the names that it uses; root: stands before its field paths.
        can_bus: whether its CAN values were given, or are zeros as in scenes without CAN.
    """

    clip_in: ClipIn
    images: Mapping[str, bytes]
    clip: Clip
    geometry: ImageGeometry
    can_bus: CanSource
    root: str = ""

    @property
    def decoded_bytes(self) -> int:
        return len(self.clip.frames) * len(CAMERAS) * self.geometry.padded_height * self.geometry.width * 3


def as_it_is(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame


@dataclass(frozen=True)
class Decoded:
    """A clip ready for the model."""

    loaded: LoadedClip
    can_bus: CanSource


def check_images(
    clip_in: ClipIn,
    images: Mapping[str, bytes],
    image: ImageConfig,
    limits: ServeConfig,
    root: str = "",
    to_end: bool = True,
) -> CheckedClip:
    """The sizes of the images by their headers. Raises `ApiError` 422.

    Args:
        to_end: of each file; else `decode_clip` finds what is wrong behind the headers, before it decodes the image.
    """
    cameras = clip_cameras(clip_in.frames, root)
    pool = _threads("check", limits.decode_threads) if to_end else None  # headers alone hold the interpreter
    width, height = common_size(cameras, images, limits, pool=pool, to_end=to_end)
    clip = to_clip(clip_in, width, height)
    can_bus: CanSource = "zeros" if clip_in.frames[0].can is None else "given"
    return CheckedClip(clip_in, images, clip, image_geometry(clip.frames[0], image), can_bus, root)


def decode_clip(checked: CheckedClip, image: ImageConfig, limits: ServeConfig, keep: Keep = as_it_is) -> Decoded:
    """All pixels of the clip, a frame each. Raises `ApiError` 422: too many, or an image that cannot be decoded.

    Args:
        keep: what becomes of each frame once it is decoded, in the thread that did it.
    """
    geometry, frames = checked.geometry, checked.clip_in.frames
    if checked.decoded_bytes > limits.max_decoded_bytes:
        raise ApiError(
            422,
            f"{len(frames)} frames of images resized to {geometry.width} x {geometry.height} take "
            f"{checked.decoded_bytes} bytes, more than the {limits.max_decoded_bytes} that this service decodes for "
            "one clip; send it as a job.",
            f"{checked.root}frames",
        )
    pool = _threads("decode", limits.decode_threads)
    light = LoadedClip(checked.clip, (), geometry)
    numbers = pool.submit(lambda: light.arrays)  # beside the decoding, which leaves the interpreter alone
    work = _FramesToDecode(clip_cameras(frames, checked.root), checked.images, geometry, image, keep)
    for _ in pool.map(work.decode, range(len(work.cameras))):
        pass
    numbers.result()
    return Decoded(light.with_images(tuple(work.frames)), checked.can_bus)


@lru_cache(maxsize=2)
def _threads(name: str, wanted: int | None) -> ThreadPoolExecutor:
    """Shared by all clips, so that two at a time do not take twice the cores."""
    cv2.setNumThreads(1)  # or each resize would take all of them
    return ThreadPoolExecutor(wanted or min(8, usable_cpus()), name)


class _FramesToDecode:
    """The images of a clip, for any number of threads; whoever ends a frame hands it on while others go on decoding.

    A clip's pixels are never one piece of memory here: its frames take and return what the allocator keeps, while so
    large a piece would be brought in and given back page by page for each clip.
    """

    def __init__(
        self,
        cameras: Sequence[tuple[CameraIn, str]],
        images: Mapping[str, bytes],
        geometry: ImageGeometry,
        config: ImageConfig,
        keep: Keep,
    ) -> None:
        self.cameras, self._images, self._geometry, self._config, self._keep = cameras, images, geometry, config, keep
        n_frames = len(cameras) // len(CAMERAS)
        self.frames: list[Any] = [None] * n_frames
        self._left = [len(CAMERAS)] * n_frames
        self._lock = threading.Lock()

    def decode(self, index: int) -> None:
        """One image, once it is known to be one. Raises `ApiError` 422."""
        t, row = divmod(index, len(CAMERAS))
        camera, field = self.cameras[index]
        check_to_end(camera, field, self._images[camera.image])
        with self._lock:
            if self.frames[t] is None:
                self.frames[t] = _room(len(CAMERAS), self._geometry)
        decode_camera(camera, field, self._images, self._geometry, self._config, self.frames[t][row])
        with self._lock:
            self._left[t] -= 1
            is_whole = not self._left[t]
        if is_whole:
            self.frames[t] = self._keep(self.frames[t])


def decode_cameras(
    cameras: Sequence[tuple[CameraIn, str]],
    images: Mapping[str, bytes],
    geometry: ImageGeometry,
    config: ImageConfig,
) -> NDArray[np.uint8]:
    """(cameras, padded_height, width, 3) uint8 RGB; `ApiError` 422 names the field of the first broken image."""
    out = _room(len(cameras), geometry)
    for (camera, field), row in zip(cameras, out):
        decode_camera(camera, field, images, geometry, config, row)
    return out


def decode_camera(
    camera: CameraIn,
    field: str,
    images: Mapping[str, bytes],
    geometry: ImageGeometry,
    config: ImageConfig,
    out: NDArray[np.uint8],
) -> None:
    try:
        decode_images([images[camera.image]], [camera.image[:200]], geometry, config, out[None])
    except InputError as error:
        raise ApiError(422, str(error), f"{field}.image") from None


def _room(n_images: int, geometry: ImageGeometry) -> NDArray[np.uint8]:
    return np.empty((n_images, geometry.padded_height, geometry.width, 3), np.uint8)


def to_clip(clip_in: ClipIn, width: int, height: int) -> Clip:
    """The record that the pool's clips have: commands and CAN vectors derived as for a nuScenes scene."""
    frames = [to_frame(frame, index, width, height) for index, frame in enumerate(clip_in.frames)]
    poses = np.stack([frame.global_from_lidar for frame in frames])
    commands = [command_of(ego_future(poses, index)[0]) for index in range(len(frames))]
    return Clip(
        clip_token=clip_in.clip_token or "upload",
        name=clip_in.clip_token or "upload",
        log_token=clip_in.log_token or "",
        location=clip_in.location,
        split="pool",
        description=clip_in.description,
        is_night=False,
        is_rainy=False,
        behaviour="straight",
        acc_std_mps2=0.0,
        yaw_sum_rad=0.0,
        dynamics_source="pose" if clip_in.frames[0].can is None else "can",
        frames=tuple(replace(frame, command=command) for frame, command in zip(frames, commands)),
    )


def to_frame(frame: FrameIn, index: int, width: int, height: int) -> Frame:
    """A frame's record; its command is known only once the whole clip is."""
    pose = _pose(frame.global_from_ego)
    can = None
    if frame.can is not None:
        motion = [*frame.can.acceleration_mps2, *frame.can.rotation_rate_radps, *frame.can.velocity_mps]
        # One message: the vector takes it whatever its time; its yaw is not part of the vector.
        can = CanPoses(np.array([frame.timestamp_us], np.int64), np.array([motion], np.float64), np.zeros(1))
    return Frame(
        token=f"frames.{index}",
        timestamp_us=frame.timestamp_us,
        global_from_ego=pose,
        ego_from_lidar=_pose(frame.ego_from_lidar),
        can_bus=can_bus_vector(frame.timestamp_us, pose, can),
        command=Command.STRAIGHT,
        cameras=tuple(_camera(name, getattr(frame.cameras, name), width, height) for name in CAMERAS),
    )


def _camera(name: str, camera: CameraIn, width: int, height: int) -> Camera:
    return Camera(
        name=name,
        key=camera.image,
        width=width,
        height=height,
        timestamp_us=camera.timestamp_us,
        intrinsics=np.array(camera.intrinsics, np.float64),
        ego_from_camera=_pose(camera.ego_from_camera),
        global_from_ego=_pose(camera.global_from_ego),
    )


def _pose(pose: PoseIn | MountIn) -> Pose:
    return Pose(pose.translation_m, pose.rotation_wxyz)
