"""What a worker does with one log of py123d: its clips, or their labels, written whole into the ledger."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sead_ray.errors import InputError
from sead_ray.nuscenes.map_vectors import LocationMap
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.clips import LogClips
from sead_ray.py123d.images import require_images
from sead_ray.py123d.labels import log_labels
from sead_ray.py123d.maps import load_map, map_key
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages.scene_workers import SceneJob
from sead_ray.storage import Store

MAPS_KEPT = 4  # nuPlan and nuScenes have four towns each


def make_log_clips(row: dict[str, Any], job: SceneJob) -> dict[str, Any]:
    """Writes the part of a log (log, role, part, check_images); answers {part, error, is_distorted}."""
    answer = {"part": row["part"], "error": "", "is_distorted": False}
    try:
        found = LogClips(ArrowLog(Store(job.data.root), row["log"]), job.data)
        clips = found.clips(row["role"])
        if row["check_images"]:
            require_images(found.log.store, clips)
        job.run.write_table(row["part"], [clip.to_row() for clip in clips], CLIP_SCHEMA)
        answer["is_distorted"] = any(camera.is_distorted for camera in found.cameras)
    except InputError as complaint:
        answer["error"] = str(complaint)
    return answer


def make_log_labels(row: dict[str, Any], job: SceneJob) -> dict[str, Any]:
    """The same for its labels, one row a frame; answers {part, error, has_map}."""
    answer = {"part": row["part"], "error": "", "has_map": False}
    try:
        log = ArrowLog(Store(job.data.root), row["log"])
        key = map_key(log)
        answer["has_map"] = key is not None
        found = log_labels(LogClips(log, job.data), _map(job.number, log.store, key) if key else None)
        job.run.write_table(row["part"], [labels.to_row() for labels in found], LABEL_SCHEMA)
    except InputError as complaint:
        answer["error"] = str(complaint)
    return answer


@lru_cache(maxsize=MAPS_KEPT)
def _map(_job: str, store: Store, key: str) -> LocationMap:
    """Maps that this process has loaded for the job: seconds each."""
    return load_map(store, key)
