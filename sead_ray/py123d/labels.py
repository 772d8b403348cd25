"""The oracle of a py123d log: tracked boxes and map vectors of its key frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from sead_ray.errors import InputError
from sead_ray.nuscenes.map_vectors import LocationMap, map_vectors
from sead_ray.py123d.arrow_log import BOXES, ArrowLog
from sead_ray.py123d.categories import category_table
from sead_ray.py123d.clips import LogClips
from sead_ray.records import OBJECT_CATEGORIES, Annotation, FrameLabels

_FIELDS = ["timestamp_us", "bounding_box_se3", "track_token", "label", "num_lidar_points"]


def log_labels(clips: LogClips, location_map: LocationMap | None) -> list[FrameLabels]:
    """Labels of every key frame of every clip, in their order; no map vectors where there is no map.

    Raises:
        InputError: the log has no boxes, or a frame has none; names it.
    """
    log = clips.log
    if BOXES not in log.modalities:
        raise InputError(f"{log.path(BOXES)} does not exist: with labels.mode=wait annotators deliver labels.")
    table = log.columns(BOXES, _FIELDS)
    categories = category_table(str(log.metadata(BOXES).get("box_detection_label_class")), log.path(BOXES))
    observed = log.rows(BOXES)
    found = []
    for clip, rows in zip(clips.clips("pool"), clips.rows, strict=True):
        for frame, row in zip(clip.frames, rows, strict=True):
            if not 0 <= observed[row] < len(table):
                raise InputError(f"{log.path(BOXES)} has no boxes for frame {frame.token}, at {frame.timestamp_us}.")
            boxes = {name: table.column(name)[int(observed[row])].as_py() for name in _FIELDS}
            found.append(
                FrameLabels(
                    frame_token=frame.token,
                    clip_token=clip.clip_token,
                    timestamp_us=frame.timestamp_us,
                    annotations=_annotations(boxes, categories, log),
                    map_vectors=map_vectors(location_map, frame.global_from_lidar) if location_map else (),
                )
            )
    return found


def _annotations(boxes: dict[str, Any], categories: list[str | None], log: ArrowLog) -> tuple[Annotation, ...]:
    """A count of lidar points that the data set does not give is taken for one: the object was seen."""
    found: dict[str, Annotation] = {}
    points = boxes["num_lidar_points"] or [None] * len(boxes["track_token"] or [])
    columns = (boxes["track_token"] or [], boxes["label"] or [], boxes["bounding_box_se3"] or [], points)
    if len({len(column) for column in columns}) != 1:
        raise InputError(f"{log.path(BOXES)} has lists of different lengths at {boxes['timestamp_us']}.")
    for token, label, box, n_points in zip(*columns, strict=True):
        owner = f"The box of track {token} at {boxes['timestamp_us']} in {log.path(BOXES)}"
        if not isinstance(label, int) or not 0 <= label < len(categories):
            raise InputError(f"{owner} has the unknown label {label}.")
        category = categories[label]
        if category is None:
            continue
        if token in found:
            raise InputError(f"{owner} is there twice.")
        numbers = np.array([np.nan if value is None else value for value in box or []])
        if numbers.shape != (10,) or not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:7]) - 1) > 0.01:
            raise InputError(f"{owner} is not a box: it takes ten finite numbers with a unit quaternion.")
        x, y, z, qw, qx, qy, qz, length, width, height = numbers.tolist()
        if min(length, width, height) <= 0:
            raise InputError(f"{owner} has a size that is not positive.")
        found[token] = Annotation(
            instance_token=token,
            category=category,
            category_index=OBJECT_CATEGORIES.index(category),
            translation_m=(x, y, z),
            size_wlh_m=(width, length, height),
            rotation_wxyz=(qw, qx, qy, qz),
            n_lidar_points=1 if n_points is None else n_points,
            n_radar_points=0,
        )
    return tuple(found.values())
