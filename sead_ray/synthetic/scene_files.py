"""One scene written out: images, lidar, CAN files, and its rows of the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.config import WorldConfig
from sead_ray.geometry import Pose, quaternion_from_heading
from sead_ray.synthetic import rays, stage
from sead_ray.synthetic.actors import Actor
from sead_ray.synthetic.bodies import CYCLES, HUMANS, KINDS
from sead_ray.synthetic.can_files import can_messages
from sead_ray.synthetic.episode import Episode, drive
from sead_ray.synthetic.pictures import exposure_time_s, jpeg, take_picture
from sead_ray.synthetic.plan import ScenePlan, token
from sead_ray.synthetic.rig import CAMERAS
from sead_ray.synthetic.scenery import Scenery, build_scenery
from sead_ray.synthetic.truth import measure

ANNOTATED_M = 60.0
Rows = dict[str, list[dict[str, Any]]]


def write_scene(plan: ScenePlan, world: WorldConfig, root: Path) -> dict[str, Any]:
    """Writes the scene's files below `root`; returns its rows of the tables that grow with scenes, and its truth."""
    episode = drive(plan.log.location, world.seed, plan.number, world.frames, plan.scenario)
    scenery = build_scenery(plan.log.location, world.seed)
    # Time 0 of the episode, such that the first key frame falls on the plan's start.
    start_us = plan.start_us - round(float(episode.times_s[0]) * 1e6)
    rows: Rows = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "instance", "sample_annotation")}
    samples = [token(world.seed, "sample", plan.name, frame) for frame in range(world.frames)]
    seen = []
    for frame, time in enumerate(episode.times_s):
        rows["sample"].append(
            {
                "token": samples[frame],
                "timestamp": start_us + round(float(time) * 1e6),
                "prev": samples[frame - 1] if frame else "",
                "next": samples[frame + 1] if frame + 1 < world.frames else "",
                "scene_token": token(world.seed, "scene", plan.name),
            }
        )
        seen.append(_write_lidar(plan, world, root, episode, scenery, frame, start_us, rows))
        _write_cameras(plan, world, root, episode, frame, start_us, rows)
    _annotate(plan, world, episode, seen, samples, rows)
    rows["scene"].append(
        {
            "token": token(world.seed, "scene", plan.name),
            "log_token": token(world.seed, "log", plan.log.number),
            "nbr_samples": world.frames,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": plan.name,
            "description": describe(plan, episode.words),
        }
    )
    if plan.has_can:
        rng = np.random.default_rng([world.seed, 13, plan.number])
        for message, content in can_messages(episode, start_us, rng).items():
            _write_json(root / "can_bus" / f"{plan.name}_{message}.json", content)
    return {**rows, "truth": measure(episode).to_row()}


def describe(plan: ScenePlan, words: tuple[str, ...]) -> str:
    """A description in nuScenes' manner."""
    parts = ["Night"] * plan.night + ["Rain"] * plan.rain + list(words)
    parts += ["lamps at night"] * plan.night + ["wet road in rain"] * plan.rain
    text = ", ".join(parts)
    return text[0].upper() + text[1:]


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _sample_data(
    plan: ScenePlan, world: WorldConfig, channel: str, frame: int, time_us: int, pose: Pose, size: tuple[int, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of sample_data and ego_pose; width and height are 0 for the lidar, as in nuScenes."""

    def name(number: int) -> str:
        return token(world.seed, "sample_data", plan.name, channel, number) if 0 <= number < world.frames else ""

    kind = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    data = {
        "token": name(frame),
        "sample_token": token(world.seed, "sample", plan.name, frame),
        "ego_pose_token": name(frame),
        "calibrated_sensor_token": token(world.seed, "calibrated_sensor", plan.log.number, channel),
        "timestamp": time_us,
        "fileformat": kind.split(".")[0],
        "is_key_frame": True,
        "height": size[1],
        "width": size[0],
        "filename": f"samples/{channel}/{plan.log.logfile}__{channel}__{time_us}.{kind}",
        "prev": name(frame - 1),
        "next": name(frame + 1),
    }
    ego = {
        "token": name(frame),
        "timestamp": time_us,
        "rotation": list(pose.rotation_wxyz),
        "translation": list(pose.translation_m),
    }
    return data, ego


def _write_lidar(plan, world, root: Path, episode: Episode, scenery: Scenery, frame: int, start_us: int, rows: Rows):
    """Writes the scan; returns what the annotations of this frame need."""
    time = float(episode.times_s[frame])
    pose = episode.ego_pose(time)
    poses = episode.tracks.poses(time)
    eye = np.array([*poses[0, :2], 1.6])
    boxes, owners, bright = stage.boxes_at(episode.tracks, poses, scenery, eye)
    scan, _ = rays.lidar_scan(boxes, bright, pose)
    data, ego = _sample_data(plan, world, "LIDAR_TOP", frame, start_us + round(time * 1e6), pose, (0, 0))
    rows["sample_data"].append(data)
    rows["ego_pose"].append(ego)
    path = root / data["filename"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scan.tobytes())
    near = [
        number
        for number in stage.shown_actors(episode.tracks)
        if np.hypot(*(poses[number, :2] - eye[:2])) < ANNOTATED_M
    ]
    targets = np.array([_target(number, episode.tracks.actors[number], poses[number]) for number in near]).reshape(
        -1, 8
    )
    shares = rays.seen_shares(eye, targets, boxes, owners)
    frame_from_global = rays.lidar_from_global(pose)
    out = {}
    for target, share in zip(targets, shares):
        actor = episode.tracks.actors[int(target[0])]
        centre = np.round(target[1:4], 3)
        count = rays.points_inside(scan, centre, actor.size_wlh_m, float(target[7]), frame_from_global)
        out[int(target[0])] = (centre, float(target[7]), float(poses[int(target[0]), 3]), share, count)
    return out


def _target(number: int, actor: Actor, pose: NDArray[np.float64]) -> list[float]:
    width, length, height = actor.size_wlh_m
    return [number, pose[0], pose[1], height / 2, length, width, height, pose[2]]


def _write_cameras(plan: ScenePlan, world: WorldConfig, root: Path, episode: Episode, frame, start_us, rows: Rows):
    size = (world.image_width, world.image_height)
    for number, spec in enumerate(CAMERAS):
        time = exposure_time_s(episode, frame, number)
        pose = episode.ego_pose(time)
        data, ego = _sample_data(plan, world, spec.name, frame, start_us + round(time * 1e6), pose, size)
        rows["sample_data"].append(data)
        rows["ego_pose"].append(ego)
        path = root / data["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(take_picture(plan, world, episode, frame, number)))


def _annotate(plan: ScenePlan, world: WorldConfig, episode: Episode, seen: list[dict], samples, rows: Rows) -> None:
    """Tracks from the first to the last frame in which the lidar or a clear view shows the road user."""
    for number, actor in enumerate(episode.tracks.actors):
        shown = [f for f, frame in enumerate(seen) if number in frame and (frame[number][4] or frame[number][3] >= 0.4)]
        frames = [f for f in range(shown[0], shown[-1] + 1) if number in seen[f]] if shown and number else []
        if not frames:
            continue
        tokens = [token(world.seed, "annotation", plan.name, number, frame) for frame in frames]
        instance = token(world.seed, "instance", plan.name, number)
        for index, frame in enumerate(frames):
            centre, yaw, speed, share, count = seen[frame][number]
            rows["sample_annotation"].append(
                {
                    "token": tokens[index],
                    "sample_token": samples[frame],
                    "instance_token": instance,
                    "visibility_token": str(1 + sum(share >= limit for limit in (0.4, 0.6, 0.8))),
                    "attribute_tokens": [token(0, "attribute", name) for name in attributes(actor, speed)],
                    "translation": [float(value) for value in centre],
                    "size": list(actor.size_wlh_m),
                    "rotation": list(quaternion_from_heading(yaw)),
                    "prev": tokens[index - 1] if index else "",
                    "next": tokens[index + 1] if index + 1 < len(tokens) else "",
                    "num_lidar_pts": count,
                    "num_radar_pts": 0,
                }
            )
        rows["instance"].append(
            {
                "token": instance,
                "category_token": token(0, "category", KINDS[actor.kind].category),
                "nbr_annotations": len(tokens),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )


def attributes(actor: Actor, speed_mps: float) -> list[str]:
    """nuScenes' attribute of a road user's state; none for cones and barriers."""
    moving = speed_mps > 0.2
    if actor.kind in HUMANS:
        return ["pedestrian.moving" if moving else "pedestrian.standing"]
    if actor.kind in CYCLES:
        return ["cycle.with_rider"]
    if actor.kind in ("cone", "barrier"):
        return []
    if actor.state == "parked":
        return ["vehicle.parked"]
    return ["vehicle.moving" if moving else "vehicle.stopped"]
