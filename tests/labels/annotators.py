"""Annotators that know the truth, and deliver it in a tool's own format."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sead_ray.geometry import heading_from_quaternion
from sead_ray.labels.sources import ATTRIBUTES, CATEGORIES
from sead_ray.labels.task import LabelTask
from sead_ray.records import FrameLabels


def nuscenes_tables(frames: Sequence[FrameLabels]) -> dict[str, list[dict[str, Any]]]:
    """The tables that annotators of nuScenes write, with `prev` and `next` along each track."""
    category_of = {item.instance_token: item.category for frame in frames for item in frame.annotations}
    rows: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}
    for frame in sorted(frames, key=lambda frame: frame.timestamp_us):
        for number, item in enumerate(frame.annotations):
            row = {
                "token": f"{frame.frame_token}-{number}",
                "sample_token": frame.frame_token,
                "instance_token": item.instance_token,
                "attribute_tokens": [item.attribute] if item.attribute else [],
                "translation": list(item.translation_m),
                "size": list(item.size_wlh_m),
                "rotation": list(item.rotation_wxyz),
                "num_lidar_pts": item.n_lidar_points,
                "num_radar_pts": item.n_radar_points,
                "prev": "",
                "next": "",
            }
            if item.instance_token in last:
                row["prev"], last[item.instance_token]["next"] = last[item.instance_token]["token"], row["token"]
            last[item.instance_token] = row
            rows.append(row)
    return {
        "sample_annotation": rows,
        "instance": [{"token": token, "category_token": name} for token, name in category_of.items()],
        "category": [{"token": name, "name": name} for name in CATEGORIES],
        "attribute": [{"token": name, "name": name} for name in ATTRIBUTES],
        "sample": [{"token": frame.frame_token, "timestamp": frame.timestamp_us} for frame in frames],
    }


def write_tables(folder: Path, tables: Mapping[str, list[dict[str, Any]]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return str(folder)


def cvat_document(task: LabelTask, truth: Mapping[str, FrameLabels], digits: int = 12) -> dict[str, Any]:
    """What CVAT's export "Datumaro 3D 1.0" of a task holds when every frame shown is annotated, context too.

    `digits`: Datumaro writes two, centimetres and hundredths of a radian.
    """
    tracks: dict[str, int] = {}
    items = []
    for item in task.frames:
        shapes = []
        for box in truth[item.frame.token].annotations:
            width, length, height = box.size_wlh_m
            track = tracks.setdefault(box.instance_token, len(tracks))
            shapes.append(
                {
                    "id": track,
                    "type": "cuboid_3d",
                    "attributes": {
                        "attribute": box.attribute or "none",
                        "occluded": False,
                        "track_id": track,
                        "keyframe": True,
                    },
                    "group": 0,
                    "label_id": CATEGORIES.index(box.category),
                    "position": np.round(np.array(box.translation_m) - task.origin_m, digits).tolist(),
                    "rotation": [0.0, 0.0, round(heading_from_quaternion(box.rotation_wxyz), digits)],
                    "scale": [round(side, digits) for side in (length, width, height)],
                }
            )
        items.append(
            {
                "id": f"pointcloud/{item.name}",
                "annotations": shapes,
                "attr": {"frame": item.index},
                "point_cloud": {"path": f"{item.name}.pcd"},
            }
        )
    labels = [{"name": name, "parent": "", "attributes": ["attribute"]} for name in CATEGORIES]
    return {
        "dm_format_version": "1.0",
        "media_type": 6,  # point clouds
        "infos": {},
        "categories": {"label": {"labels": labels, "attributes": ["occluded"]}, "points": {"items": []}},
        "items": items,
    }


def write_cvat(path: Path, document: Mapping[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations/default.json", json.dumps(document))
    return str(path)
