"""What a worker does with one scene: its clip, or its labels, written whole into the ledger of finished scenes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.map_vectors import LocationMap
from sead_ray.nuscenes.scene_index import DRIVE_TABLES, LABEL_TABLES, SceneIndex, SceneTables
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.storage import Store


@dataclass(frozen=True)
class SceneJob:
    """What all scenes of one job share.

    Attributes:
        run: the run folder.
        indexes: keys of the scene indexes that a scene's rows are in; the second, if any, holds annotations.
        number: of this job alone, so that a worker process kept from an earlier one shows no map of then.
    """

    run: Store
    data: DataConfig
    indexes: tuple[str, ...]
    number: str


def make_clip(scene: dict[str, Any], job: SceneJob) -> dict[str, Any]:
    """Writes the part of a `scene` (token, role, part, positions in the indexes); answers {part, error}."""
    return _made(scene, job, lambda folder: [folder.clip(scene["token"], scene["role"]).to_row()], CLIP_SCHEMA)


def make_labels(scene: dict[str, Any], job: SceneJob) -> dict[str, Any]:
    """The same for its labels, one row a frame."""
    return _made(scene, job, lambda folder: [item.to_row() for item in folder.labels(scene["token"])], LABEL_SCHEMA)


def _made(scene: dict[str, Any], job: SceneJob, rows: Any, schema: Any) -> dict[str, Any]:
    error = ""
    try:
        if not job.run.exists(scene["part"]):  # Ray gives a dead worker's scene to another
            job.run.write_table(scene["part"], rows(_folder(scene, job)), schema)
    except InputError as complaint:
        error = str(complaint)
    return {"part": scene["part"], "error": error}


def _folder(scene: dict[str, Any], job: SceneJob) -> NuScenesFolder:
    rows: dict[str, list[str]] = {}
    for key, position in zip(job.indexes, scene["positions"], strict=True):
        rows |= SceneIndex(job.run, key).rows(position)
    names = DRIVE_TABLES if len(job.indexes) == 1 else DRIVE_TABLES + LABEL_TABLES
    tables = SceneTables(Store(job.data.root), job.data.version, rows, names)
    return NuScenesFolder(job.data, tables, _maps(job.number), check_images=False)


@lru_cache(maxsize=1)
def _maps(_job: str) -> dict[str, LocationMap]:
    """Maps that this process has loaded for the job, by location: seconds each."""
    return {}
