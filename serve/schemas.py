"""What a client sends: a clip, a frame of a session, clips in storage. Every number is finite and within reason."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sead_ray.wire import ModelInfo

__all__ = ["CameraIn", "ClipIn", "FrameIn", "ModelInfo", "PoseIn", "StoredClipIn", "StoredClipsIn", "first_complaint"]

QUATERNION_TOLERANCE = 1e-3
# Past every map projection's coordinates; keeps each product of poses finite.
LIMIT = 1e8
MOUNT_LIMIT_M = 100.0  # no vehicle is larger
PIXEL_LIMIT = 1e6
SHOWN_PATH = 200  # of a field's path, which a client may make as long as it likes

Number = Annotated[float, Field(ge=-LIMIT, le=LIMIT, allow_inf_nan=False)]
Vector = tuple[Number, Number, Number]
MountNumber = Annotated[float, Field(ge=-MOUNT_LIMIT_M, le=MOUNT_LIMIT_M, allow_inf_nan=False)]
PixelNumber = Annotated[float, Field(ge=-PIXEL_LIMIT, le=PIXEL_LIMIT, allow_inf_nan=False)]
PixelRow = tuple[PixelNumber, PixelNumber, PixelNumber]
TimeStamp = Annotated[int, Field(ge=0, lt=2**53)]  # what every JSON reader keeps exactly
Token = Annotated[str, Field(min_length=1, max_length=200)]


def _unit(quaternion: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    norm = sum(value * value for value in quaternion) ** 0.5
    if abs(norm - 1) > QUATERNION_TOLERANCE:
        raise ValueError(f"a rotation must be a unit quaternion (w, x, y, z), but its norm is {norm:.6g}")
    return quaternion


def _pinhole(matrix: tuple[PixelRow, PixelRow, PixelRow]) -> tuple[PixelRow, PixelRow, PixelRow]:
    (focal_x, skew, _), (shear, focal_y, _), last = matrix
    if not (focal_x > 0 and focal_y > 0 and shear == 0 and last == (0, 0, 1)):
        raise ValueError("intrinsics must be a pinhole matrix: positive focal lengths, 0 below them, last row 0 0 1")
    if not (0.1 <= focal_x / focal_y <= 10 and abs(skew) <= focal_x):
        raise ValueError("intrinsics are absurd: the focal lengths differ tenfold, or the skew exceeds them")
    return matrix


class Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )


Rotation = Annotated[tuple[Number, Number, Number, Number], AfterValidator(_unit)]


class PoseIn(Wire):
    translation_m: Vector
    rotation_wxyz: Rotation


class MountIn(Wire):
    """Where a sensor sits on the vehicle."""

    translation_m: tuple[MountNumber, MountNumber, MountNumber]
    rotation_wxyz: Rotation


class CanIn(Wire):
    """CAN `pose` values in the ego frame, of the first message after the key frame."""

    acceleration_mps2: Vector
    rotation_rate_radps: Vector
    velocity_mps: Vector


class CameraIn(Wire):
    image: Annotated[str, Field(min_length=1, max_length=1000)]
    """File name of the `images` part that holds this camera's JPEG, or its key in storage."""
    intrinsics: Annotated[tuple[PixelRow, PixelRow, PixelRow], AfterValidator(_pinhole)]
    ego_from_camera: MountIn
    timestamp_us: TimeStamp
    global_from_ego: PoseIn
    """At the camera's own time stamp."""
    width: Annotated[int, Field(ge=1, le=2**16)] | None = None
    """Image size that the intrinsics are for; where given, the JPEG must have it."""
    height: Annotated[int, Field(ge=1, le=2**16)] | None = None


class CamerasIn(Wire):
    CAM_FRONT: CameraIn
    CAM_FRONT_RIGHT: CameraIn
    CAM_FRONT_LEFT: CameraIn
    CAM_BACK: CameraIn
    CAM_BACK_LEFT: CameraIn
    CAM_BACK_RIGHT: CameraIn


class FrameIn(Wire):
    """One key frame."""

    timestamp_us: TimeStamp
    global_from_ego: PoseIn
    ego_from_lidar: MountIn
    can: CanIn | None = None
    cameras: CamerasIn


class ClipIn(Wire):
    """One clip of key frames, in the order of time."""

    clip_token: Token | None = None
    log_token: Token | None = None
    """The log that the clip is cut from: intake needs it, to keep the pool apart from val."""
    location: Annotated[str, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=2000)] = ""
    """In words, as of a nuScenes scene: intake reads night and rain from it."""
    frames: Annotated[tuple[FrameIn, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _one_can_source(self) -> ClipIn:
        if len({frame.can is None for frame in self.frames}) > 1:
            raise ValueError("give `can` in every frame or in none: zeros among real values would look like a stop")
        return self


class StoredClipIn(ClipIn):
    """A clip whose images lie in storage; each camera's `image` is a key below `storage`."""

    storage: Annotated[str, Field(min_length=1, max_length=1000)]
    """One of the folders that the operator allows (`storage_prefixes`), spelled as there."""


class StoredClipsIn(Wire):
    """A batch of clips in storage."""

    clips: Annotated[tuple[StoredClipIn, ...], Field(min_length=1, max_length=1000)]


class SessionIn(Wire):
    clip_token: Token | None = None


def first_complaint(error: ValidationError, root: str = "clip") -> tuple[str, str]:
    """(field path, sentence). An unknown field comes first: it often explains the missing one."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    path = ".".join(str(part) for part in first["loc"])[:SHOWN_PATH] or root
    if first["type"] == "extra_forbidden":
        return path, f"Unknown field {path}."
    if first["type"] == "missing":
        return path, f"{path} is missing."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    return path, f"{path}: {message[:1].lower()}{message[1:]}."[: 3 * SHOWN_PATH]
