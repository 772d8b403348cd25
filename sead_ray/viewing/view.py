"""What is shown of a clip, whatever shows it. All places are in the world: global axes from the ego's first place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sead_ray.evaluation.detection_frames import predicted_boxes
from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.geometry import Pose, composed, transform_points
from sead_ray.labels.point_cloud import Points
from sead_ray.nuscenes.agents import class_index
from sead_ray.records import AGENT_CLASSES, MAP_CLASSES, Clip, ClipScore, Frame, FrameLabels

Array = NDArray[np.float64]
MIN_SCORE = 0.2  # of a detection or map line that is shown


@dataclass(frozen=True)
class ViewBox:
    """A box: centre, sides along its own axes (x forward), and what is written on it."""

    center_m: tuple[float, float, float]
    size_lwh_m: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]
    label: int  # index into AGENT_CLASSES; -1: none of them
    text: str


@dataclass(frozen=True)
class ViewLine:
    """(n, 3) points of a map element; `label` indexes MAP_CLASSES."""

    points_m: Array
    label: int


@dataclass(frozen=True)
class FrameView:
    """One key frame.

    Attributes:
        world_from_ego: of the lidar's time stamp; world_from_camera: of each camera's own, in the order of its cameras.
        points: (n, 4) x, y, z, intensity; None: no sweep.
        labels, map_lines: None: the frame is not labelled.
        detections, map_seen, plan_m: None without a model; plan_m (7, 3) from the ego on, for the driven command.
        driven_m: (k, 3) where the ego went from here on.
        numbers: shift_agents, shift_map (of the transition that ends here), is_key, nearest_m; only what is known.
    """

    frame: Frame
    world_from_ego: Pose
    world_from_camera: tuple[Pose, ...]
    driven_m: Array
    points: NDArray[np.float32] | None = None
    labels: list[ViewBox] | None = None
    map_lines: list[ViewLine] | None = None
    detections: list[ViewBox] | None = None
    map_seen: list[ViewLine] | None = None
    plan_m: Array | None = None
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelView:
    """What a model says of every frame of a clip. `plans_m`: (T, 6, 2) per-step offsets in each lidar frame."""

    plans_m: NDArray[np.float32]
    predictions: Sequence[FramePrediction]


def clip_view(
    clip: Clip,
    labels: Mapping[str, FrameLabels],
    sweeps: Mapping[str, Points],
    model: ModelView | None = None,
    score: ClipScore | None = None,
) -> list[FrameView]:
    """Every frame of the clip; `labels` and `sweeps` by frame token, as far as there are any."""
    origin_m = np.asarray(clip.frames[0].global_from_ego.translation_m)
    track_m = np.array([frame.global_from_ego.translation_m for frame in clip.frames]) - origin_m
    numbers = _numbers(clip, score)
    views = []
    for index, frame in enumerate(clip.frames):
        world_from_lidar = _moved(composed(frame.global_from_ego, frame.ego_from_lidar), origin_m)
        ground_m = float(track_m[index, 2])
        found = labels.get(frame.token)
        seen = model.predictions[index] if model and model.predictions else None
        views.append(
            FrameView(
                frame=frame,
                world_from_ego=_moved(frame.global_from_ego, origin_m),
                world_from_camera=tuple(
                    _moved(composed(camera.global_from_ego, camera.ego_from_camera), origin_m)
                    for camera in frame.cameras
                ),
                driven_m=track_m[index:],
                points=_points(sweeps.get(frame.token), world_from_lidar),
                labels=_labelled(found, origin_m) if found else None,
                map_lines=[
                    ViewLine(_on_ground(vector.points_m, world_from_lidar, ground_m), vector.map_class)
                    for vector in found.map_vectors
                ]
                if found
                else None,
                detections=_detected(seen, frame, origin_m) if seen else None,
                map_seen=_map_seen(seen, world_from_lidar, ground_m) if seen else None,
                plan_m=_plan(model.plans_m[index], world_from_lidar, ground_m) if model else None,
                numbers=numbers[index],
            )
        )
    return views


def class_name(label: int) -> str:
    return AGENT_CLASSES[label] if label >= 0 else "other"


def map_name(label: int) -> str:
    return MAP_CLASSES[label]


def _moved(pose: Pose, origin_m: Array) -> Pose:
    x, y, z = (np.asarray(pose.translation_m) - origin_m).tolist()
    return Pose((x, y, z), pose.rotation_wxyz)


def _points(sweep: Points | None, world_from_lidar: Pose) -> NDArray[np.float32] | None:
    if sweep is None:
        return None
    return np.concatenate([transform_points(world_from_lidar.matrix, sweep[:, :3]), sweep[:, 3:]], 1).astype(np.float32)


def _labelled(labels: FrameLabels, origin_m: Array) -> list[ViewBox]:
    boxes = []
    for item in labels.annotations:
        width, length, height = item.size_wlh_m
        text = f"{item.category} {item.instance_token[:6]}"
        boxes.append(
            _box(
                item.translation_m - origin_m,
                (length, width, height),
                item.rotation_wxyz,
                class_index(item.category),
                text,
            )
        )
    return boxes


def _detected(seen: FramePrediction, frame: Frame, origin_m: Array) -> list[ViewBox]:
    found = predicted_boxes(seen, frame)
    return [
        _box(
            found.centers_m[index] - origin_m,
            found.sizes_wlh_m[index][[1, 0, 2]],
            found.rotations_wxyz[index],
            int(found.labels[index]),
            f"{AGENT_CLASSES[found.labels[index]]} {found.scores[index]:.2f}",
        )
        for index in np.flatnonzero(found.scores >= MIN_SCORE)
    ]


def _box(center_m: ArrayLike, size_lwh_m: ArrayLike, rotation_wxyz: ArrayLike, label: int, text: str) -> ViewBox:
    x, y, z = np.asarray(center_m, np.float64).tolist()
    length, width, height = np.asarray(size_lwh_m, np.float64).tolist()
    qw, qx, qy, qz = np.asarray(rotation_wxyz, np.float64).tolist()
    return ViewBox((x, y, z), (length, width, height), (qw, qx, qy, qz), label, text)


def _map_seen(seen: FramePrediction, world_from_lidar: Pose, ground_m: float) -> list[ViewLine]:
    return [
        ViewLine(_on_ground(seen.lines_m[index], world_from_lidar, ground_m), int(seen.line_labels[index]))
        for index in np.flatnonzero(seen.line_scores >= MIN_SCORE)
    ]


def _plan(offsets_m: ArrayLike, world_from_lidar: Pose, ground_m: float) -> Array:
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(np.asarray(offsets_m, np.float64), axis=0)])
    return _on_ground(path, world_from_lidar, ground_m)


def _on_ground(points_xy: ArrayLike, world_from_lidar: Pose, ground_m: float) -> Array:
    """(n, 2) of the lidar frame as (n, 3), at the height of the ego's origin, which is on the ground."""
    flat = np.asarray(points_xy, np.float64)
    places = transform_points(world_from_lidar.matrix, np.concatenate([flat, np.zeros((len(flat), 1))], axis=1))
    places[:, 2] = ground_m
    return places


def _numbers(clip: Clip, score: ClipScore | None) -> list[dict[str, float]]:
    """By frame. A shift belongs to the frame at its end; with gaps in the clip its place is not known."""
    found: list[dict[str, float]] = [{} for _ in clip.frames]
    if score is None or score.status != "ok":
        return found
    for index, (is_key, nearest_m) in enumerate(zip(score.is_key, score.min_distance_m)):
        found[index]["is_key"] = float(is_key)
        if np.isfinite(nearest_m):
            found[index]["nearest_m"] = float(nearest_m)
    if len(score.shift_agents) == len(clip.frames) - 1:
        for index, (agents, lines) in enumerate(zip(score.shift_agents, score.shift_map), 1):
            found[index].update(shift_agents=float(agents), shift_map=float(lines))
    return found
