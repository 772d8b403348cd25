"""Clips for people to look at: a table of what free data say of them, or one clip in full."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

import numpy as np

from sead_ray.errors import InputError
from sead_ray.evaluation.baselines import constant_velocity_plans, mean_l2_m, step_l2_m
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.vad_info import drive_info, label_info
from sead_ray.records import Clip, Command
from sead_ray.stages.progress import Progress

Scene = tuple[str, Literal["pool", "val"]]

HEADER = (
    f"{'scene':<12} {'role':<4} {'frames':>6} {'light':<5} {'weather':<7} {'behaviour':<9} {'right/left/straight':>19} "
    f"{'source':<6} {'Acc CAN':>8} {'Acc pose':>8} {'Yaw CAN':>8} {'Yaw pose':>8}"
)


def chosen_scenes(folder: NuScenesFolder, clip: str) -> list[Scene]:
    """Every scene of pool and val, or the one of that name or token."""
    if not clip:
        pool: list[Scene] = [(token, "pool") for token in folder.pool_scenes()]
        return pool + [(token, "val") for token in folder.val_scenes()]
    for token, scene in folder.tables.scenes.items():
        if clip in (token, scene["name"]):
            return [(token, "pool")]
    raise InputError(f"{folder.store.path(folder.data.version)}/scene.json has no scene {clip!r}.")


def clip_table(folder: NuScenesFolder, scenes: list[Scene]) -> str:
    """One line a clip; Acc in m/s2 and Yaw in rad; below, the L2 of constant velocity in both conventions."""
    lines, steps = [HEADER], []
    with Progress("inspect clips", len(scenes), "scene") as progress:
        for token, role in scenes:
            clip = folder.clip(token, role)
            lines.append(_line(clip, folder.dynamics(clip)))
            steps.append(step_l2_m(clip, constant_velocity_plans(clip)))
            progress.advance()
    return "\n".join([*lines, *_velocity_lines(np.concatenate(steps))])


def clip_json(folder: NuScenesFolder, token: str, role: Literal["pool", "val"], with_labels: bool = False) -> str:
    """All that is known of a clip; its frames as VAD's info files have them. NaN becomes null."""
    clip = folder.clip(token, role)
    labels = {item.frame_token: item for item in folder.labels(token)} if with_labels else {}
    frames = []
    for index, frame in enumerate(clip.frames):
        info = drive_info(clip, index)
        if with_labels:
            info |= label_info(clip, index, labels)
            info["map_vectors"] = [
                {"map_class": vector.map_class, "points_m": vector.points_m}
                for vector in labels[frame.token].map_vectors
            ]
        frames.append(info)
    row = {name: value for name, value in vars(clip).items() if name not in ("frames", "split")}
    row["dynamics"] = {
        source: {"acc_std_mps2": acc, "yaw_sum_rad": yaw} for source, (acc, yaw) in folder.dynamics(clip).items()
    }
    return json.dumps(_plain({**row, "frames": frames}), indent=1, allow_nan=False)


def _line(clip: Clip, dynamics: dict[str, tuple[float, float]]) -> str:
    commands = Counter(frame.command for frame in clip.frames)
    counts = "/".join(str(commands[command]) for command in Command)
    nothing = (np.nan, np.nan)
    (can_acc, can_yaw), (pose_acc, pose_yaw) = (dynamics.get(source, nothing) for source in ("can", "pose"))
    numbers = " ".join(
        f"{'-' if np.isnan(value) else format(value, '.3f'):>8}" for value in (can_acc, pose_acc, can_yaw, pose_yaw)
    )
    return (
        f"{clip.name:<12} {clip.split:<4} {len(clip.frames):>6} {'night' if clip.is_night else 'day':<5} "
        f"{'rainy' if clip.is_rainy else 'sunny':<7} {clip.behaviour:<9} {counts:>19} {clip.dynamics_source:<6} "
        f"{numbers}"
    )


def _velocity_lines(step_l2: np.ndarray) -> list[str]:
    if not len(step_l2):
        return []
    averaged, at_horizon = mean_l2_m(step_l2)
    return [
        f"Constant velocity, {len(step_l2)} frames with one before and six after: L2 in m at 1, 2, 3 s and their mean",
        f"  averaged up to the horizon (VAD): {', '.join(f'{value:.4f}' for value in averaged)}",
        f"  at the horizon (UniAD):           {', '.join(f'{value:.4f}' for value in at_horizon)}",
    ]


def _plain(value: Any) -> Any:
    """For JSON: arrays as lists, NaN as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
