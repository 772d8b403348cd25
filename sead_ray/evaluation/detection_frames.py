"""What a frame hands to nuScenes' detection evaluator: predicted and annotated boxes in the global frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.geometry import (
    Pose,
    heading_from_vad_yaw,
    quaternion_product,
    quaternions_from_headings,
    transform_points,
)
from sead_ray.nuscenes.agents import Track, box_velocity, class_index
from sead_ray.records import AGENT_CLASSES, Annotation, Clip, Frame, FrameLabels

MOVING_MPS = 0.2  # mmdetection3d and VAD: faster than this is moving
BICYCLE_RACK = "static_object.bicycle_rack"

Array = NDArray[np.float64]

# A detector without an attribute head is given one by its speed, as mmdetection3d and VAD do: faster, slower.
_VEHICLE, _CYCLE = ("vehicle.moving", "vehicle.parked"), ("cycle.with_rider", "cycle.without_rider")
ATTRIBUTES_BY_SPEED = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "trailer"), _VEHICLE),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    **dict.fromkeys(("motorcycle", "bicycle"), _CYCLE),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    **dict.fromkeys(("barrier", "traffic_cone"), ("", "")),
}


@dataclass(frozen=True)
class BoxSet:
    """n boxes in the global frame.

    Attributes:
        centers_m, sizes_wlh_m: (n, 3); rotations_wxyz: (n, 4); velocities_mps: (n, 2), NaN where unknown.
        labels: (n,) index into `records.AGENT_CLASSES`; scores: (n,), -1 for annotations.
        n_points: (n,) lidar and radar returns, -1 for predictions.
        attributes: n nuScenes attribute names, empty for none.
    """

    centers_m: Array
    sizes_wlh_m: Array
    rotations_wxyz: Array
    velocities_mps: Array
    labels: NDArray[np.int64]
    scores: Array
    n_points: NDArray[np.int64]
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class FrameDetections:
    """One frame's predicted and annotated boxes, its poses, and the bicycle racks in which no cycle is counted."""

    frame_token: str
    global_from_ego: Pose
    ego_from_lidar: Pose
    predicted: BoxSet
    annotated: BoxSet
    bicycle_racks: tuple[Annotation, ...]


def clip_detections(
    clip: Clip, predictions: Sequence[FramePrediction], labels: Mapping[str, FrameLabels]
) -> list[FrameDetections]:
    """One entry for each of a clip's frames, all of which must be in `labels`: velocities come from neighbours."""
    tracks: dict[str, Track] = {}
    for index, frame in enumerate(clip.frames):
        for annotation in labels[frame.token].annotations:
            tracks.setdefault(annotation.instance_token, {})[index] = annotation
    timestamp_us = [frame.timestamp_us for frame in clip.frames]
    found = []
    for index, (frame, prediction) in enumerate(zip(clip.frames, predictions, strict=True)):
        annotations = labels[frame.token].annotations
        wanted = [annotation for annotation in annotations if class_index(annotation.category) >= 0]
        for annotation in wanted:
            if min(annotation.size_wlh_m) <= 0:
                raise InputError(
                    f"Frame {frame.token}: the box of instance {annotation.instance_token} has no extent "
                    f"({annotation.size_wlh_m})."
                )
        velocities = [box_velocity(tracks[item.instance_token], index, timestamp_us) for item in wanted]
        racks = tuple(annotation for annotation in annotations if annotation.category == BICYCLE_RACK)
        found.append(
            FrameDetections(
                frame_token=frame.token,
                global_from_ego=frame.global_from_ego,
                ego_from_lidar=frame.ego_from_lidar,
                predicted=predicted_boxes(prediction, frame),
                annotated=annotated_boxes(wanted, velocities),
                bicycle_racks=racks,
            )
        )
    return found


def predicted_boxes(prediction: FramePrediction, frame: Frame) -> BoxSet:
    """Decoded boxes moved from the frame's lidar to the global frame, each with an attribute by its speed."""
    boxes = prediction.boxes.astype(np.float64)
    global_from_lidar = frame.global_from_lidar
    turn = quaternion_product(frame.global_from_ego.rotation_wxyz, frame.ego_from_lidar.rotation_wxyz)
    velocities = np.pad(boxes[:, 7:9], ((0, 0), (0, 1))) @ global_from_lidar[:3, :3].T
    moving = np.hypot(boxes[:, 7], boxes[:, 8]) > MOVING_MPS
    return BoxSet(
        centers_m=transform_points(global_from_lidar, boxes[:, :3]),
        sizes_wlh_m=boxes[:, 3:6],
        rotations_wxyz=quaternion_product(turn, quaternions_from_headings(heading_from_vad_yaw(boxes[:, 6]))),
        velocities_mps=velocities[:, :2],
        labels=prediction.labels,
        scores=prediction.scores.astype(np.float64),
        n_points=np.full(len(boxes), -1),
        attributes=tuple(
            ATTRIBUTES_BY_SPEED[AGENT_CLASSES[label]][0 if fast else 1]
            for label, fast in zip(prediction.labels, moving)
        ),
    )


def annotated_boxes(annotations: Sequence[Annotation], velocities_mps: Sequence[Array]) -> BoxSet:
    """Annotations of detection classes as they stand, whatever their distance and returns."""
    n = len(annotations)
    return BoxSet(
        centers_m=np.array([item.translation_m for item in annotations], np.float64).reshape(n, 3),
        sizes_wlh_m=np.array([item.size_wlh_m for item in annotations], np.float64).reshape(n, 3),
        rotations_wxyz=np.array([item.rotation_wxyz for item in annotations], np.float64).reshape(n, 4),
        velocities_mps=np.array(velocities_mps, np.float64).reshape(n, 2),
        labels=np.array([class_index(item.category) for item in annotations], np.int64),
        scores=np.full(n, -1.0),
        n_points=np.array([item.n_lidar_points + item.n_radar_points for item in annotations], np.int64),
        attributes=tuple(item.attribute for item in annotations),
    )
