"""An upload to a decoded clip, as the pool's clips reach the model. Every complaint names its field."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import ValidationError

from sead_ray.config import ImageConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import CanPoses, can_bus_vector
from sead_ray.nuscenes.commands import command_of, ego_future
from sead_ray.nuscenes.images import ImageGeometry, decode_images, image_geometry
from sead_ray.records import CAMERAS, Camera, Clip, Command, Frame
from sead_ray.stages.clip_runner import LoadedClip
from serve.errors import ApiError
from serve.schemas import CameraIn, ClipIn, FrameIn, PoseIn, first_complaint
from serve.upload import Upload


@dataclass(frozen=True)
class Decoded:
    """A clip ready for the model, and whether its CAN values were given or are zeros as in scenes without CAN."""

    loaded: LoadedClip
    can_bus: Literal["given", "zeros"]


def decode_upload(upload: Upload, image: ImageConfig, limits: ServeConfig) -> Decoded:
    """Validates, then decodes; nothing is decoded before all sizes are known to be within the limits.

    Raises:
        ApiError: 422 with the field's path.
    """
    clip_in = parse_clip(upload.clip, limits.max_frames)
    _check_references(clip_in, upload)
    width, height = _common_size(clip_in, upload, limits.max_image_pixels)
    clip = to_clip(clip_in, width, height)
    geometry = image_geometry(clip.frames[0], image)
    decoded_bytes = len(clip.frames) * len(CAMERAS) * geometry.padded_height * geometry.width * 3
    if decoded_bytes > limits.max_decoded_bytes:
        raise ApiError(
            422,
            f"{len(clip.frames)} frames of images resized to {geometry.width} x {geometry.height} take {decoded_bytes} "
            f"bytes, more than the {limits.max_decoded_bytes} that this service decodes for one clip.",
            "frames",
        )
    can_bus = "zeros" if clip_in.frames[0].can is None else "given"
    return Decoded(LoadedClip(clip, _decode(clip_in, upload, geometry, image), geometry), can_bus)


def parse_clip(data: bytes, max_frames: int) -> ClipIn:
    """The `clip` part; frames at most `max_frames`, time stamps growing.

    Raises:
        ApiError: 422.
    """
    try:
        clip = ClipIn.model_validate_json(data)
    except ValidationError as error:
        field, sentence = first_complaint(error)
        raise ApiError(422, sentence, field) from None
    if len(clip.frames) > max_frames:
        raise ApiError(
            422, f"The clip has {len(clip.frames)} frames; this service takes {max_frames} at most.", "frames"
        )
    for index, (earlier, later) in enumerate(zip(clip.frames, clip.frames[1:]), start=1):
        if later.timestamp_us <= earlier.timestamp_us:
            raise ApiError(
                422,
                f"Time does not go forward at frame {index}: {later.timestamp_us} after {earlier.timestamp_us} us.",
                f"frames.{index}.timestamp_us",
            )
    return clip


def to_clip(clip_in: ClipIn, width: int, height: int) -> Clip:
    """The record that the pool's clips have: commands and CAN vectors derived as for a nuScenes scene."""
    frames = [_frame(frame, index, width, height) for index, frame in enumerate(clip_in.frames)]
    poses = np.stack([frame.global_from_lidar for frame in frames])
    commands = [command_of(ego_future(poses, index)[0]) for index in range(len(frames))]
    return Clip(
        clip_token=clip_in.clip_token or "upload",
        name=clip_in.clip_token or "upload",
        log_token="",
        location="",
        split="pool",
        description="",
        is_night=False,
        is_rainy=False,
        behaviour="straight",
        acc_std_mps2=0.0,
        yaw_sum_rad=0.0,
        dynamics_source="pose" if clip_in.frames[0].can is None else "can",
        frames=tuple(replace(frame, command=command) for frame, command in zip(frames, commands)),
    )


def _frame(frame: FrameIn, index: int, width: int, height: int) -> Frame:
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
        command=Command.STRAIGHT,  # known once the whole clip is
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


def _pose(pose: PoseIn) -> Pose:
    return Pose(pose.translation_m, pose.rotation_wxyz)


def _cameras(clip: ClipIn) -> Iterator[tuple[CameraIn, str]]:
    """(camera, field path of its image) of every image, in the model's order."""
    for index, frame in enumerate(clip.frames):
        for name in CAMERAS:
            yield getattr(frame.cameras, name), f"frames.{index}.cameras.{name}.image"


def _check_references(clip: ClipIn, upload: Upload) -> None:
    """Every image is there, and serves one camera of one frame."""
    used: set[str] = set()
    for camera, field in _cameras(clip):
        if camera.image not in upload.images:
            raise ApiError(422, f"There is no images part with the file name {camera.image!r}.", field)
        if camera.image in used:
            raise ApiError(422, f"The images part {camera.image!r} is named by two cameras.", field)
        used.add(camera.image)
    if unused := sorted(set(upload.images) - used):
        raise ApiError(422, f"No camera names the images part {unused[0]!r}.", "images")


def _common_size(clip: ClipIn, upload: Upload, max_pixels: int) -> tuple[int, int]:
    """(width, height) that the headers of all images agree on, and the clip where it says so."""
    common: tuple[int, int] | None = None
    for camera, field in _cameras(clip):
        width, height = _header_size(upload.images[camera.image], camera.image, field)
        if width * height > max_pixels:
            raise ApiError(
                422, f"Image {camera.image!r} is {width} x {height} pixels; the limit is {max_pixels} in all.", field
            )
        said = (camera.width or width, camera.height or height)
        common = common or (width, height)
        for expected, source in ((said, "its camera says"), (common, "the clip's first has")):
            if (width, height) != expected:
                sizes = f"{width} x {height} pixels, while {source} {expected[0]} x {expected[1]}"
                raise ApiError(422, f"Image {camera.image!r} is {sizes}.", field)
    assert common is not None
    return common


def _header_size(data: bytes, name: str, field: str) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.size
    except Exception:  # Pillow has no common class for what hostile bytes make it raise
        raise ApiError(422, f"Image {name!r} is not a JPEG.", field) from None


def _decode(clip: ClipIn, upload: Upload, geometry: ImageGeometry, config: ImageConfig) -> np.ndarray:
    """(T, 6, padded_height, width, 3) uint8 RGB."""
    shape = (len(clip.frames), len(CAMERAS), geometry.padded_height, geometry.width, 3)
    out = np.zeros(shape, np.uint8)
    images = out.reshape(-1, *shape[2:])
    for position, (camera, field) in enumerate(_cameras(clip)):
        try:
            decoded, _ = decode_images([upload.images[camera.image]], [camera.image], geometry, config)
        except InputError as error:
            raise ApiError(422, str(error), field) from None
        images[position] = decoded[0]
    return out
