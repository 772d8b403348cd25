"""CVAT: one 3D task a clip, as the archive that a task is created from, with labels and one call of cvat-cli each.

Point clouds are in global axes around the clip's first bought frame (`LabelTask.origin_m`), so that a track of a parked
car is one key frame. CVAT shows the six images beside each cloud as its related images.
"""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Iterable
from typing import Any

from sead_ray.image_keys import read_image
from sead_ray.labels.point_cloud import pcd_bytes, to_global
from sead_ray.labels.sources import ATTRIBUTES, CATEGORIES, Sources
from sead_ray.labels.task import LabelTask
from sead_ray.storage import Store

LABELS = "labels.json"
ATTRIBUTE = "attribute"  # of a label: nuScenes' attribute
_NO_ATTRIBUTE = "none"


def export_cvat(tasks: Iterable[LabelTask], target: Store, sources: Sources) -> list[str]:
    """`labels.json`, `tasks.json` (CVAT's task specifications), `tasks/<clip>.zip`, and `create_tasks.sh`."""
    written, specifications, calls = [LABELS, "tasks.json", "create_tasks.sh"], [], []
    target.write_json(LABELS, label_specification())
    for task in tasks:
        key = f"tasks/{task.clip.name}.zip"
        target.write_bytes(key, _archive(task, sources))
        specifications.append({**task_specification(task), "labels": label_specification()})
        calls.append(
            f'cvat-cli "$@" task create {shlex.quote(specifications[-1]["name"])} --labels {LABELS} local '
            f"{shlex.quote(key)}"
        )
        written.append(key)
    target.write_json("tasks.json", specifications)
    script = "\n".join(["#!/bin/sh", "# sh create_tasks.sh --server-host https://cvat.example --auth user", *calls, ""])
    target.write_bytes("create_tasks.sh", script.encode())
    return written


def label_specification() -> list[dict[str, Any]]:
    """CVAT's labels: nuScenes' categories as cuboids, each with the attributes of its kind."""
    labels = []
    for category in CATEGORIES:
        kind = _attribute_kind(category)
        values = [name for name in ATTRIBUTES if kind and name.startswith(f"{kind}.")]
        attribute = {
            "name": ATTRIBUTE,
            "mutable": True,
            "input_type": "select",
            "default_value": _NO_ATTRIBUTE,
            "values": [_NO_ATTRIBUTE, *values],
        }
        labels.append({"name": category, "type": "cuboid", "attributes": [attribute] if values else []})
    return labels


def task_specification(task: LabelTask) -> dict[str, Any]:
    """Name and size; one job a task, so that a track has one annotator."""
    return {"name": f"{task.clip.name} ({task.clip.clip_token})", "segment_size": len(task.frames)}


def attribute_of(value: Any) -> str:
    """nuScenes' attribute from CVAT's; empty for none."""
    return value if isinstance(value, str) and value != _NO_ATTRIBUTE else ""


def _attribute_kind(category: str) -> str:
    if category in ("vehicle.bicycle", "vehicle.motorcycle"):
        return "cycle"
    if category.startswith("human."):
        return "pedestrian"
    return "vehicle" if category.startswith("vehicle.") else ""


def _archive(task: LabelTask, sources: Sources) -> bytes:
    """pointcloud/NAME.pcd and related_images/NAME_pcd/CAMERA.jpg of each frame."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for item in task.frames:
            points = to_global(sources.sweep(item), item.frame, task.origin_m)
            archive.writestr(zipfile.ZipInfo(f"pointcloud/{item.name}.pcd"), pcd_bytes(points))
            for camera in item.frame.cameras:
                name = f"related_images/{item.name}_pcd/{camera.name}.jpg"
                archive.writestr(zipfile.ZipInfo(name), read_image(sources.data, camera.key))
    return content.getvalue()
