"""What goes over the wire: the `clip` part of a request, the answers, and the error body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from sead_ray.config import ImageConfig, ScoreConfig

QUATERNION_TOLERANCE = 1e-3
# Past every map projection's coordinates; keeps each product of poses finite.
LIMIT = 1e8

Number = Annotated[float, Field(ge=-LIMIT, le=LIMIT, allow_inf_nan=False)]
Vector = tuple[Number, Number, Number]
TimeStamp = Annotated[int, Field(ge=0, lt=2**53)]  # what every JSON reader keeps exactly


def _unit(quaternion: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    norm = sum(value * value for value in quaternion) ** 0.5
    if abs(norm - 1) > QUATERNION_TOLERANCE:
        raise ValueError(f"a rotation must be a unit quaternion (w, x, y, z), but its norm is {norm:.6g}")
    return quaternion


def _pinhole(matrix: tuple[Vector, Vector, Vector]) -> tuple[Vector, Vector, Vector]:
    if not (matrix[0][0] > 0 and matrix[1][1] > 0 and matrix[2] == (0, 0, 1)):
        raise ValueError("intrinsics must be a pinhole matrix: positive focal lengths, last row 0 0 1")
    return matrix


class Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class PoseIn(Wire):
    translation_m: Vector
    rotation_wxyz: Annotated[tuple[Number, Number, Number, Number], AfterValidator(_unit)]


class CanIn(Wire):
    """CAN `pose` values in the ego frame, of the first message after the key frame."""

    acceleration_mps2: Vector
    rotation_rate_radps: Vector
    velocity_mps: Vector


class CameraIn(Wire):
    image: Annotated[str, Field(min_length=1, max_length=200)]
    """File name of the `images` part that holds this camera's JPEG."""
    intrinsics: Annotated[tuple[Vector, Vector, Vector], AfterValidator(_pinhole)]
    ego_from_camera: PoseIn
    timestamp_us: TimeStamp
    global_from_ego: PoseIn
    """At the camera's own time stamp."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Image size that the intrinsics are for; where given, the JPEG must have it."""
    height: Annotated[int, Field(ge=1)] | None = None


class CamerasIn(Wire):
    CAM_FRONT: CameraIn
    CAM_FRONT_RIGHT: CameraIn
    CAM_FRONT_LEFT: CameraIn
    CAM_BACK: CameraIn
    CAM_BACK_LEFT: CameraIn
    CAM_BACK_RIGHT: CameraIn


class FrameIn(Wire):
    timestamp_us: TimeStamp
    global_from_ego: PoseIn
    ego_from_lidar: PoseIn
    can: CanIn | None = None
    cameras: CamerasIn


class ClipIn(Wire):
    """One clip of key frames, in the order of time."""

    clip_token: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    frames: Annotated[tuple[FrameIn, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _one_can_source(self) -> ClipIn:
        if len({frame.can is None for frame in self.frames}) > 1:
            raise ValueError("give `can` in every frame or in none: zeros among real values would look like a stop")
        return self


class KeyFrames(BaseModel):
    """The longest run of key frames; length 0 where there is none."""

    start: int
    length: int


class Seconds(BaseModel):
    decode: float
    model: float


class ScoreAnswer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    status: Literal["ok", "failed"]
    reason: str
    """Why a clip could not be scored; empty where it was."""
    clip_token: str
    model_version: str
    """Scores of different models are never compared."""
    score: float | None
    """What selection ranks by: the sum of the shifts (SEAD Eq. 3), or their mean where the model's run says so."""
    rank_by: Literal["sum", "mean"]
    shift_agents: list[float]
    shift_map: list[float]
    min_distance_m: list[float | None]
    """Nearest detected road participant of each frame; null where there is none."""
    is_key: list[bool]
    key_frames: KeyFrames
    n_frames: int
    can_bus: Literal["given", "zeros"]
    seconds: Seconds


class ModelInfo(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_version: str
    preset: str
    round: int | None
    n_parameters: int
    image: ImageConfig
    score: ScoreConfig


class Health(BaseModel):
    status: Literal["ok"]


class ErrorAnswer(BaseModel):
    error_id: str
    """Stands in the service's log too."""
    detail: str
    field: str | None
    """Path of the culprit in the `clip` part, such as `frames.3.cameras.CAM_BACK.image`, or the part's name."""


def first_complaint(error: ValidationError) -> tuple[str, str]:
    """(field path, sentence). An unknown field comes first: it often explains the missing one."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    first = next((item for item in errors if item["type"] == "extra_forbidden"), errors[0])
    path = ".".join(str(part) for part in first["loc"]) or "clip"
    if first["type"] == "extra_forbidden":
        return path, f"Unknown field {path}."
    if first["type"] == "missing":
        return path, f"{path} is missing."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    return path, f"{path}: {message[:1].lower()}{message[1:]}."
