"""The JSON of a request to checked clips and frames. Every complaint names its field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sead_ray.records import CAMERAS
from serve.errors import ApiError
from serve.schemas import CameraIn, ClipIn, FrameIn, first_complaint

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: bytes, root: str) -> Model:
    """`data` as `model`; `ApiError` 422 with the path of the first thing that is wrong, or `root`."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        field, sentence = first_complaint(error, root)
        raise ApiError(422, sentence, field) from None


def parse_clip(data: bytes, max_frames: int) -> ClipIn:
    """The `clip` part; frames at most `max_frames`, time going forward. Raises `ApiError` 422."""
    clip = parse(ClipIn, data, "clip")
    check_clip(clip, max_frames)
    return clip


def check_clip(clip: ClipIn, max_frames: int, root: str = "") -> None:
    """What a schema cannot say: the number of frames, and the order of time. `root` stands before the field's path."""
    if len(clip.frames) > max_frames:
        raise ApiError(
            422, f"The clip has {len(clip.frames)} frames; this service takes {max_frames} at most.", f"{root}frames"
        )
    for index, (earlier, later) in enumerate(zip(clip.frames, clip.frames[1:]), start=1):
        check_order(earlier, later, f"{root}frames.{index}.", f"frame {index}")


def check_order(earlier: FrameIn, later: FrameIn, root: str, name: str) -> None:
    """Time goes forward from frame to frame, and no camera's goes backwards."""
    if later.timestamp_us <= earlier.timestamp_us:
        raise ApiError(
            422,
            f"Time does not go forward at {name}: {later.timestamp_us} after {earlier.timestamp_us} us.",
            f"{root}timestamp_us",
        )
    for (camera, field), (before, _) in zip(cameras_of(later, root), cameras_of(earlier, root)):
        if camera.timestamp_us < before.timestamp_us:
            raise ApiError(
                422,
                f"Time goes backwards at {name}: {camera.timestamp_us} after {before.timestamp_us} us.",
                f"{field}.timestamp_us",
            )


def cameras_of(frame: FrameIn, root: str) -> Iterator[tuple[CameraIn, str]]:
    """(camera, its field path) in the model's order."""
    for name in CAMERAS:
        yield getattr(frame.cameras, name), f"{root}cameras.{name}"


def clip_cameras(frames: Sequence[FrameIn], root: str = "") -> list[tuple[CameraIn, str]]:
    """(camera, its field path) of every image of a clip."""
    return [pair for index, frame in enumerate(frames) for pair in cameras_of(frame, f"{root}frames.{index}.")]
