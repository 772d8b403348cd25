"""A clip of a data set as a request to the scoring service: JSON, and JPEGs as they lie in the folder."""

from __future__ import annotations

import json
from typing import Any

from sead_ray.geometry import Pose
from sead_ray.image_keys import read_image
from sead_ray.records import Clip, Frame
from sead_ray.storage import Store

File = tuple[str, tuple[str | None, bytes, str]]


def clip_request(clip: Clip, data_root: str) -> tuple[dict[str, Any], list[File]]:
    """The JSON of the `clip` part and the `images` parts of `POST /v1/score`.

    CAN values go along where the clip has them; without them the service puts zeros, as the clip does.
    """
    frames, files = [], []
    for index in range(len(clip.frames)):
        frame, mine = frame_request(clip, index, data_root)
        frames.append(frame)
        files += mine
    return {**_about(clip), "frames": frames}, files


def frame_request(clip: Clip, index: int, data_root: str) -> tuple[dict[str, Any], list[File]]:
    """The same of one frame, for a session."""
    store, frame = Store(data_root), clip.frames[index]
    names = {camera.name: f"{index:03d}_{camera.name}.jpg" for camera in frame.cameras}
    files: list[File] = [
        ("images", (names[camera.name], read_image(store, camera.key), "image/jpeg")) for camera in frame.cameras
    ]
    return _frame(frame, names, clip.dynamics_source == "can"), files


def stored_clip(clip: Clip, storage: str) -> dict[str, Any]:
    """The JSON of a clip whose images lie below the folder `storage`, which the service must be allowed to read."""
    has_can = clip.dynamics_source == "can"
    keys = [{camera.name: camera.key for camera in frame.cameras} for frame in clip.frames]
    frames = [_frame(frame, names, has_can) for frame, names in zip(clip.frames, keys)]
    return {"storage": storage, **_about(clip), "frames": frames}


def _about(clip: Clip) -> dict[str, Any]:
    log = {"log_token": clip.log_token} if clip.log_token else {}
    return {"clip_token": clip.clip_token, **log, "location": clip.location, "description": clip.description}


def clip_part(clip: dict[str, Any], name: str = "clip") -> File:
    """The `clip` part beside the files of `clip_request`; a session's is called `frame`."""
    return (name, (None, json.dumps(clip, allow_nan=False).encode(), "application/json"))


def _frame(frame: Frame, names: dict[str, str], has_can: bool) -> dict[str, Any]:
    out: dict[str, Any] = {
        "timestamp_us": frame.timestamp_us,
        "global_from_ego": _pose(frame.global_from_ego),
        "ego_from_lidar": _pose(frame.ego_from_lidar),
        "cameras": {
            camera.name: {
                "image": names[camera.name],
                "intrinsics": camera.intrinsics.tolist(),
                "ego_from_camera": _pose(camera.ego_from_camera),
                "timestamp_us": camera.timestamp_us,
                "global_from_ego": _pose(camera.global_from_ego),
                "width": camera.width,
                "height": camera.height,
            }
            for camera in frame.cameras
        },
    }
    if has_can:
        motion = [float(value) for value in frame.can_bus[7:16]]
        names_of_three = ("acceleration_mps2", "rotation_rate_radps", "velocity_mps")
        out["can"] = {name: motion[3 * i : 3 * i + 3] for i, name in enumerate(names_of_three)}
    return out


def _pose(pose: Pose) -> dict[str, list[float]]:
    return {"translation_m": list(pose.translation_m), "rotation_wxyz": list(pose.rotation_wxyz)}
