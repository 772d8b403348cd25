"""Training and evaluation targets of a frame, from the labels that may be used for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from sead_ray.errors import InputError
from sead_ray.geometry import invert
from sead_ray.nuscenes.agents import Array, Track, agent_attributes, agent_box, box_velocity, class_index
from sead_ray.nuscenes.commands import ego_future
from sead_ray.nuscenes.map_targets import map_targets
from sead_ray.nuscenes.map_vectors import HALF_X_M, HALF_Y_M
from sead_ray.records import FUTURE_STEPS, Annotation, Clip, FrameLabels
from sead_ray.targets import FrameTargets

Points = Literal["lidar_or_radar", "lidar"]


def build_targets(
    clip: Clip,
    frame_index: int,
    labels: Mapping[str, FrameLabels],
    bought: Collection[str] | None = None,
    points: Points = "lidar_or_radar",
    rng: np.random.Generator | None = None,
) -> FrameTargets:
    """Targets of one frame in its lidar frame.

    Args:
        clip: the frame's clip.
        frame_index: position in `clip.frames`.
        labels: frame token -> labels.
        bought: frame tokens whose labels may be read (`targets: bought_only`); futures and velocities then end at
            the edge of the run of bought frames around this one. None: every labelled frame (`as_paper`).
        points: returns that a box needs: lidar or radar in training, lidar in evaluation (VAD's configurations).
        rng: draws the orders of closed map lines with more than 19 vertices; None draws as seed 0.

    Raises:
        InputError: the frame is not labelled, or not bought.
    """
    token = clip.frames[frame_index].token
    admitted = labels if bought is None else bought
    if token not in admitted:
        raise InputError(f"Frame {token} of clip {clip.clip_token} was not bought, or has no labels.")
    tracks = frame_tracks(clip, frame_index, labels, admitted)
    global_from_lidar = np.stack([frame.global_from_lidar for frame in clip.frames])
    boxes, classes, attributes = _agents(clip, frame_index, tracks, invert(global_from_lidar[frame_index]), points)
    map_points, map_labels = map_targets(labels[token].map_vectors, rng or np.random.default_rng(0))
    future, mask = ego_future(global_from_lidar, frame_index)
    return FrameTargets(
        boxes=boxes.astype(np.float32),
        labels=classes,
        attributes=attributes.astype(np.float32),
        map_points=map_points,
        map_labels=map_labels,
        ego_future=future.astype(np.float32),
        ego_future_mask=mask.astype(np.float32),
        command=int(clip.frames[frame_index].command),
        future_valid=frame_index + FUTURE_STEPS < len(clip.frames),
    )


def frame_tracks(
    clip: Clip, frame_index: int, labels: Mapping[str, FrameLabels], admitted: Collection[str]
) -> list[tuple[Annotation, Track]]:
    """This frame's annotations, each with what its instance did in the run of admitted frames around it.

    Only the run counts: across a frame that nobody bought, two annotations are no 0.5 s step.
    """
    tokens = [frame.token for frame in clip.frames]
    first = last = frame_index
    while first > 0 and tokens[first - 1] in admitted:
        first -= 1
    while last + 1 < len(tokens) and tokens[last + 1] in admitted:
        last += 1
    tracks: dict[str, Track] = {}
    for index in range(first, last + 1):
        if tokens[index] not in labels:
            raise InputError(f"Frame {tokens[index]} of clip {clip.clip_token} was bought, but has no labels.")
        for annotation in labels[tokens[index]].annotations:
            tracks.setdefault(annotation.instance_token, {})[index] = annotation
    return [(item, tracks[item.instance_token]) for item in labels[tokens[frame_index]].annotations]


def _agents(
    clip: Clip, frame_index: int, tracks: list[tuple[Annotation, Track]], lidar_from_global: Array, points: Points
) -> tuple[Array, np.ndarray, Array]:
    """(n, 9) boxes, (n,) classes, (n, 34) attributes of the agents that VAD's filters admit."""
    timestamp_us = [frame.timestamp_us for frame in clip.frames]
    boxes, classes, attributes = [], [], []
    for annotation, track in tracks:
        label = class_index(annotation.category)
        returns = annotation.n_lidar_points + (annotation.n_radar_points if points == "lidar_or_radar" else 0)
        if label < 0 or returns <= 0:
            continue
        velocity = box_velocity(track, frame_index, timestamp_us)
        box = agent_box(annotation, velocity, lidar_from_global)
        if abs(box[0]) >= HALF_X_M or abs(box[1]) >= HALF_Y_M:  # VAD filters by the centre, and not by z
            continue
        boxes.append(box)
        classes.append(label)
        attributes.append(agent_attributes(box, track, frame_index, lidar_from_global))
    return (
        np.array(boxes, np.float64).reshape(-1, 9),
        np.array(classes, np.int64),
        np.array(attributes, np.float64).reshape(-1, 34),
    )
