"""SageMaker Ground Truth: 3D point cloud object tracking, a sequence a clip.

Its point clouds are in world coordinates, so that boxes come back in them; `ego-vehicle-pose` places the view, camera
poses project the cuboids into the images.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, composed
from sead_ray.image_keys import read_image
from sead_ray.labels.point_cloud import to_global
from sead_ray.labels.sources import CATEGORIES, Sources
from sead_ray.labels.task import LabelTask, TaskFrame
from sead_ray.records import Camera
from sead_ray.storage import Store

MANIFEST = "sequences.manifest"


def export_ground_truth(tasks: Iterable[LabelTask], target: Store, sources: Sources) -> list[str]:
    """`sequences.manifest` (a JSON line a clip), `<clip>/sequence.json` with its clouds and images, `labels.json`.

    Context frames are numbered in `sead-context-frames` of the manifest's line, and their file names say so.

    Raises:
        InputError: neither the folder nor `files_at` is in S3, where Ground Truth reads everything.
    """
    base = (sources.files_at or target.root).rstrip("/")
    if not base.startswith("s3://"):
        raise InputError(
            "Ground Truth reads from S3: say where the exported folder will lie with --files_at s3://bucket/folder, or "
            "export there with --output s3://bucket/folder."
        )
    written, lines = [MANIFEST, "labels.json"], []
    for number, task in enumerate(tasks, 1):
        prefix = f"{base}/{task.clip.name}/"
        frames = [_frame(task, position, item, target, sources) for position, item in enumerate(task.frames)]
        sequence = {"seq-no": number, "prefix": prefix, "number-of-frames": len(frames), "frames": frames}
        target.write_json(f"{task.clip.name}/sequence.json", sequence)
        written.append(f"{task.clip.name}/sequence.json")
        context = [position for position, item in enumerate(task.frames) if item.is_context]
        line = {"source-ref": f"{prefix}sequence.json", "sead-clip": task.clip.clip_token}
        lines.append(json.dumps({**line, "sead-context-frames": context}))
    target.write_bytes(MANIFEST, ("\n".join(lines) + "\n").encode())
    labels = [{"label": category} for category in CATEGORIES]
    target.write_json("labels.json", {"document-version": "2020-03-01", "labels": labels})
    return written


def _frame(task: LabelTask, position: int, item: TaskFrame, target: Store, sources: Sources) -> dict[str, Any]:
    cloud = f"clouds/{item.name}.bin"
    target.write_bytes(f"{task.clip.name}/{cloud}", to_global(sources.sweep(item), item.frame).tobytes())
    images = []
    for camera in item.frame.cameras:
        image = f"images/{item.name}_{camera.name}.jpg"
        target.write_bytes(f"{task.clip.name}/{image}", read_image(sources.data, camera.key))
        images.append({"image-path": image, **_camera(camera)})
    return {
        "frame-no": position,
        "frame": cloud,
        "format": "binary/xyzi",
        "unix-timestamp": item.frame.timestamp_us / 1e6,
        "ego-vehicle-pose": _pose(item.frame.global_from_ego),
        "images": images,
    }


def _camera(camera: Camera) -> dict[str, Any]:
    intrinsics = camera.intrinsics
    return {
        "unix-timestamp": camera.timestamp_us / 1e6,
        "fx": float(intrinsics[0, 0]),
        "fy": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]),
        "skew": float(intrinsics[0, 1]),
        "camera-model": "pinhole",
        **_pose(composed(camera.global_from_ego, camera.ego_from_camera)),
    }


def _pose(pose: Pose) -> dict[str, Any]:
    """`position` and `heading` (a quaternion) in the world."""
    return {
        "position": dict(zip("xyz", map(float, pose.translation_m), strict=True)),
        "heading": dict(zip(("qw", "qx", "qy", "qz"), map(float, pose.rotation_wxyz), strict=True)),
    }
