"""VAD's infos of a scene → its key frames, the same as `NuScenesFolder` makes of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from sead_ray.errors import InputError
from sead_ray.nuscenes.can_bus import can_vector
from sead_ray.nuscenes.info_fields import numbers, pose, text, whole
from sead_ray.nuscenes.infos_pickle import Info
from sead_ray.records import CAMERAS, Camera, Command, Frame

Sizes = dict[str, tuple[int, int]]  # camera → width, height


def scenes_of(infos: Sequence[Info], path: str) -> dict[str, list[Info]]:
    """Scene token → its infos in the order of time; `InputError` where links, time or tokens do not fit together."""
    scenes: dict[str, list[Info]] = {}
    seen: set[str] = set()
    for number, info in enumerate(infos):
        token = text(info, "token", f"info {number} of {path}")
        if token in seen:
            raise InputError(f"{path} holds info {token} twice.")
        seen.add(token)
        scenes.setdefault(text(info, "scene_token", f"info {token}"), []).append(info)
    for items in scenes.values():
        items.sort(key=lambda info: whole(info, "timestamp", f"info {info['token']}"))
        for before, after in pairwise(items):
            if before["timestamp"] == after["timestamp"]:
                raise InputError(f"Infos {before['token']} and {after['token']} of one scene have the same time.")
            if text(before, "next", f"info {before['token']}") != after["token"]:
                raise InputError(
                    f"Info {before['token']} is followed by {before['next']!r}, but the next one that {path} holds of "
                    f"its scene is {after['token']}."
                )
    return scenes


def frame_of(info: Info, sizes: Sizes, with_can: bool = True) -> Frame:
    """The frame without what the whole clip decides where the info does not hold it: command and ego state.

    Args:
        sizes: camera → pixels of its images.
        with_can: take the CAN vector's [7:16] from the info; else they are 0 (`data.can_bus: off`).
    """
    owner = f"info {info['token']}"
    global_from_ego = pose(info, "ego2global", owner)
    rates = numbers(info, "can_bus", (18,), owner)[7:16] * with_can
    return Frame(
        token=info["token"],
        timestamp_us=whole(info, "timestamp", owner),
        global_from_ego=global_from_ego,
        ego_from_lidar=pose(info, "lidar2ego", owner),
        can_bus=can_vector(global_from_ego, rates),
        command=Command.STRAIGHT,
        cameras=tuple(_camera(info, name, sizes[name]) for name in CAMERAS),
    )


def with_own_drive(frame: Frame, info: Info, with_can: bool = True) -> Frame:
    """Takes command and ego state from the info where it holds them (test infos do not)."""
    owner = f"info {info['token']}"
    if "gt_ego_fut_cmd" in info:
        one_hot = numbers(info, "gt_ego_fut_cmd", (len(Command),), owner)
        if sorted(one_hot.tolist()) != [0.0] * (len(Command) - 1) + [1.0]:
            raise InputError(f"{owner} has a gt_ego_fut_cmd that names not exactly one command.")
        frame = replace(frame, command=Command(int(one_hot.argmax())))
    if with_can and "gt_ego_lcf_feat" in info:
        frame = replace(frame, ego_state=numbers(info, "gt_ego_lcf_feat", (9,), owner))
    return frame


def camera_key(info: Info, name: str) -> str:
    """The image's path below the data root, whatever folder the infos were made in."""
    owner = f"info {info['token']}"
    cameras = info.get("cams")
    if not isinstance(cameras, dict) or name not in cameras:
        raise InputError(f"{owner} has no camera {name}.")
    path = text(cameras[name], "data_path", f"{name} of {owner}").replace("\\", "/")
    _, found, tail = f"/{path}".rpartition("/samples/")
    if not found:
        raise InputError(f"{name} of {owner} has the data_path {path!r}, in which there is no folder samples/.")
    return f"samples/{tail}"


def _camera(info: Info, name: str, size: tuple[int, int]) -> Camera:
    key, item, owner = camera_key(info, name), info["cams"][name], f"{name} of info {info['token']}"
    return Camera(
        name=name,
        key=key,
        width=size[0],
        height=size[1],
        timestamp_us=whole(item, "timestamp", owner),
        intrinsics=numbers(item, "cam_intrinsic", (3, 3), owner),
        ego_from_camera=pose(item, "sensor2ego", owner),
        global_from_ego=pose(item, "ego2global", owner),
    )
