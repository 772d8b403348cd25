"""VAD's infos of a scene → its annotations, the same as `labels` makes of the tables, but for the instance tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.geometry import global_heading_from_vad_yaw, quaternion_from_heading, transform_points, wrap_angle
from sead_ray.nuscenes.agents import class_index
from sead_ray.nuscenes.info_fields import names, numbers, text
from sead_ray.nuscenes.info_tracks import FrameBoxes, assign_tracks
from sead_ray.nuscenes.infos_pickle import Info
from sead_ray.records import AGENT_CLASSES, OBJECT_CATEGORIES, Annotation, Frame

# nuScenes' category table before lidarseg expanded it, in its order: older info files count by it.
FIRST_CATEGORY_TABLE = (
    *("human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.wheelchair", "human.pedestrian.stroller"),
    *("human.pedestrian.personal_mobility", "human.pedestrian.police_officer"),
    *("human.pedestrian.construction_worker", "animal", "vehicle.car", "vehicle.motorcycle", "vehicle.bicycle"),
    *("vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.truck", "vehicle.construction"),
    *("vehicle.emergency.ambulance", "vehicle.emergency.police", "vehicle.trailer", "movable_object.barrier"),
    *("movable_object.trafficcone", "movable_object.pushable_pullable", "movable_object.debris"),
    "static_object.bicycle_rack",
)
_CATEGORY_INDEX = {name: index for index, name in enumerate(OBJECT_CATEGORIES)}


def category_table(infos: Sequence[Info]) -> tuple[str, ...]:
    """The category table that the file's indices count by: the one that agrees with the names of all boxes."""
    tables = [OBJECT_CATEGORIES, FIRST_CATEGORY_TABLE]
    for info in infos:
        kinds = {(name, index) for name, index in zip(*_names_and_indices(info))}
        tables = [table for table in tables if all(_agrees(table, index, name) for name, index in kinds)]
        if not tables:
            raise InputError(f"info {info['token']} has category indices that fit none of nuScenes' category tables.")
    return tables[0]


def scene_annotations(
    infos: Sequence[Info], frames: Sequence[Frame], table: Sequence[str]
) -> list[tuple[Annotation, ...]]:
    """The boxes of each of a scene's infos, in order, as nuScenes annotations; instance tokens are our own.

    Args:
        frames: of the infos.
        table: see `category_table`.
    """
    boxes = [_frame_boxes(info, frame, table) for info, frame in zip(infos, frames, strict=True)]
    tracks = assign_tracks(boxes, is_whole=not text(infos[-1], "next", f"info {infos[-1]['token']}"))
    scene = infos[0]["scene_token"]
    return [
        _annotations(info, item, [f"{scene}-{track}" for track in numbers_of_frame])
        for info, item, numbers_of_frame in zip(infos, boxes, tracks)
    ]


def _names_and_indices(info: Info) -> tuple[list[str], list[int]]:
    owner = f"info {info['token']}"
    indices = numbers(info, "gt_agent_lcf_feat", (-1, 9), owner, finite=False)[:, 8]
    return names(info, "gt_names", len(indices), owner), [int(value) for value in np.nan_to_num(indices, nan=-1)]


def _agrees(table: Sequence[str], index: int, name: str) -> bool:
    """Whether the table's row is of that category, or detection class."""
    if not 0 <= index < len(table):
        return False
    detection = class_index(table[index])
    return name == table[index] or (detection >= 0 and name == AGENT_CLASSES[detection])


def _frame_boxes(info: Info, frame: Frame, table: Sequence[str]) -> FrameBoxes:
    owner = f"info {info['token']}"
    indices = _names_and_indices(info)[1]
    count = len(indices)
    return FrameBoxes(
        token=info["token"],
        global_from_lidar=frame.global_from_lidar,
        centers_m=numbers(info, "gt_boxes", (count, 7), owner)[:, :3],
        names=[table[index] for index in indices],
        next_offset_m=numbers(info, "gt_agent_fut_trajs", (count, 12), owner)[:, :2],
        has_next=numbers(info, "gt_agent_fut_masks", (count, 6), owner)[:, 0] > 0,
    )


def _annotations(info: Info, boxes: FrameBoxes, instance_tokens: Sequence[str]) -> tuple[Annotation, ...]:
    rows = numbers(info, "gt_boxes", (len(instance_tokens), 7), f"info {info['token']}")
    centers = transform_points(boxes.global_from_lidar, boxes.centers_m)
    headings = wrap_angle(global_heading_from_vad_yaw(rows[:, 6], boxes.global_from_lidar))
    lidar, radar = (_points(info, field, len(rows)) for field in ("num_lidar_pts", "num_radar_pts"))
    return tuple(
        Annotation(
            instance_token=instance_tokens[index],
            category=category,
            category_index=_CATEGORY_INDEX[category],
            translation_m=tuple(centers[index].tolist()),
            size_wlh_m=tuple(rows[index, 3:6].tolist()),
            rotation_wxyz=quaternion_from_heading(float(headings[index])),
            n_lidar_points=int(lidar[index]),
            n_radar_points=int(radar[index]),
        )
        for index, category in enumerate(boxes.names)
    )


def _points(info: Info, field: str, count: int) -> NDArray[np.int64]:
    return numbers(info, field, (count,), f"info {info['token']}").astype(np.int64)
