"""A client of the scoring service: a clip of a nuScenes folder as a request."""

from __future__ import annotations

import json
from typing import Any

from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.image_keys import read_image
from sead_ray.records import Clip, Frame
from sead_ray.storage import Store

File = tuple[str, tuple[str | None, bytes, str]]


def clip_request(clip: Clip, data_root: str) -> tuple[dict[str, Any], list[File]]:
    """The JSON of the `clip` part and the `images` parts of `POST /v1/score`.

    CAN values go along where the clip has them; without them the service puts zeros, as the clip does.
    """
    store = Store(data_root)
    has_can = clip.dynamics_source == "can"
    frames, files = [], []
    for index, frame in enumerate(clip.frames):
        names = {camera.name: f"{index:03d}_{camera.name}.jpg" for camera in frame.cameras}
        frames.append(_frame(frame, names, has_can))
        for camera in frame.cameras:
            files.append(("images", (names[camera.name], read_image(store, camera.key), "image/jpeg")))
    return {"clip_token": clip.clip_token, "frames": frames}, files


def clip_part(clip: dict[str, Any]) -> File:
    """The `clip` part beside the files of `clip_request`."""
    return ("clip", (None, json.dumps(clip, allow_nan=False).encode(), "application/json"))


def score_clip(url: str, clip: Clip, data_root: str, timeout_s: float = 300.0) -> dict[str, Any]:
    """Sends a clip to the service at `url` and returns its answer; needs httpx.

    Raises:
        InputError: the service refuses the clip, in its own words.
        httpx.HTTPError: it cannot be reached, or failed.
    """
    import httpx

    body, files = clip_request(clip, data_root)
    response = httpx.post(f"{url.rstrip('/')}/v1/score", files=[clip_part(body), *files], timeout=timeout_s)
    if response.status_code in (413, 422):
        error = response.json()
        raise InputError(f"{error['detail']} (field {error['field']}, error {error['error_id']})")
    response.raise_for_status()
    return response.json()


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
