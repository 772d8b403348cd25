"""Annotations of a frame as VAD's agent targets: boxes, velocities, futures, the 34-number attribute row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import heading_from_vad_yaw, rotation_matrix, transform_points, vad_yaw_from_heading, wrap_angle
from sead_ray.records import AGENT_CLASSES, FUTURE_STEPS, Annotation

MAX_TIME_DIFFERENCE_S = 1.5  # the devkit's box_velocity; twice that for a central difference
GOAL_STATIC = 9  # VAD's class for an agent that stays

# nuScenes category -> detection class (the devkit's `category_to_detection_name`); others are no targets.
_DETECTION_CLASS = {
    "movable_object.barrier": "barrier",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}

Array = NDArray[np.float64]
Track = dict[int, Annotation]  # frame index -> the instance's annotation there


def class_index(category: str) -> int:
    """Index into `records.AGENT_CLASSES`, -1 for a category that is no target."""
    name = _DETECTION_CLASS.get(category)
    return -1 if name is None else AGENT_CLASSES.index(name)


def box_velocity(track: Track, index: int, timestamp_us: Sequence[int]) -> Array:
    """(2,) velocity in global axes, m/s, as the devkit's `box_velocity`: from the annotation before to the one after,
    or from one of them to this; NaN where there is neither, or they lie too far apart.

    Args:
        track: what may be seen of the instance.
        timestamp_us: of the clip's frames.
    """
    before = max((frame for frame in track if frame < index), default=index)
    after = min((frame for frame in track if frame > index), default=index)
    if before == after:
        return np.full(2, np.nan)
    elapsed_s = 1e-6 * timestamp_us[after] - 1e-6 * timestamp_us[before]
    limit_s = MAX_TIME_DIFFERENCE_S * (2 if before < index < after else 1)
    if elapsed_s > limit_s:
        return np.full(2, np.nan)
    difference = np.subtract(track[after].translation_m, track[before].translation_m)
    return difference[:2] / elapsed_s


def agent_box(annotation: Annotation, velocity_xy: Array, lidar_from_global: Array) -> Array:
    """(9,) x, y, z (gravity centre), w, l, h, VAD's yaw, vx, vy in the lidar frame; NaN velocity is 0.

    The yaw is -heading - pi/2 with the heading in (-pi, pi], not folded again, as in VAD's infos.
    """
    center = transform_points(lidar_from_global, annotation.translation_m)
    rotation = lidar_from_global[:3, :3] @ rotation_matrix(annotation.rotation_wxyz)
    yaw = vad_yaw_from_heading(np.arctan2(-rotation[0, 1], rotation[0, 0]))
    velocity = lidar_from_global[:3, :3] @ np.array([*np.nan_to_num(velocity_xy), 0.0])
    return np.array([*center, *annotation.size_wlh_m, yaw, *velocity[:2]])


def agent_attributes(box: Array, track: Track, index: int, lidar_from_global: Array) -> Array:
    """(34,) VAD's attribute row: per-step offsets 6x2 in the lidar axes of this frame, mask 6, goal 1, then x, y,
    heading, vx, vy, w, l, h, category index, and per-step heading changes 6.

    A step is the instance's next annotation, as upstream; changes of heading are folded into [-pi, pi), which
    upstream leaves out.
    """
    later = sorted(frame for frame in track if frame >= index)[: FUTURE_STEPS + 1]
    steps = len(later) - 1
    centers = transform_points(lidar_from_global, [track[frame].translation_m for frame in later])[:, :2]
    headings = [_ground_heading(track[frame], lidar_from_global) for frame in later]
    offsets, mask, turns = np.zeros((FUTURE_STEPS, 2)), np.zeros(FUTURE_STEPS), np.zeros(FUTURE_STEPS)
    offsets[:steps] = np.diff(centers, axis=0)
    mask[:steps] = 1
    turns[:steps] = wrap_angle(np.diff(headings))
    state = [box[0], box[1], heading_from_vad_yaw(box[6]), box[7], box[8], *box[3:6], track[index].category_index]
    return np.concatenate([offsets.reshape(-1), mask, [_goal(offsets)], state, turns])


def _ground_heading(annotation: Annotation, lidar_from_global: Array) -> float:
    forward = lidar_from_global[:3, :3] @ rotation_matrix(annotation.rotation_wxyz)[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def _goal(offsets: Array) -> float:
    """VAD's goal class: the octant of the motion after the first step. Motion along -x or -y counts as static, as
    upstream; VAD does not use the number."""
    path = offsets.cumsum(axis=0)
    motion = path[-1] - path[0]
    if motion.max() < 1.0:
        return GOAL_STATIC
    return float((np.arctan2(motion[1], motion[0]) + np.pi) // (np.pi / 4))
