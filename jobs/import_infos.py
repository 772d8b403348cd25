"""Turns VAD's info files (vad_nuscenes_infos_temporal_*.pkl) into clips and labels of a run folder.

`jobs.run_rounds` with the same configuration goes on from there. Images, the map expansion, scene.json and log.json
are read below data.root; the pickles may hold numpy arrays and plain containers only.
"""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.import_infos import import_infos
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.rounds import claim_config, located
from sead_ray.storage import Store


class ImportConfig(RunConfig):
    train_infos: str = ""
    """Info file of the pool: a path, s3:// or gs://."""
    val_infos: str = ""
    """Info file of val; empty where there is none."""
    scene_tables: bool = True
    """Read descriptions and logs from scene.json and log.json; without, all scenes count as day and dry."""

    @property
    def run(self) -> RunConfig:
        own = set(ImportConfig.model_fields) - set(RunConfig.model_fields)
        return located(RunConfig.model_validate(self.model_dump(exclude=own)))


def plan(config: ImportConfig) -> str:
    _require_file(config)
    return (
        f"Would import {config.train_infos} as the pool and {config.val_infos or 'nothing'} as val, with images below "
        f"{Store(config.data.root).root}, into {Store(config.run_dir).root}."
    )


def job(config: ImportConfig) -> str:
    _require_file(config)
    run = Store(config.run_dir)
    with driver_lock(run):
        claim_config(run, config.run)
        import_infos(run, config.run, config.train_infos, config.val_infos, config.scene_tables)
    facts = run.manifest(layout.CLIPS)
    return (
        f"{facts['pool_clips']} pool clips ({facts['pool_frames']} frames), {facts['val_clips']} val clips "
        f"({facts['val_frames']} frames): {run.path(layout.CLIPS_FILE)}, {run.path(layout.LABELS_FILE)}"
    )


def _require_file(config: ImportConfig) -> None:
    if not config.train_infos:
        raise InputError("train_infos is not set: name the info file of the pool.")


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ImportConfig, prog="python -m jobs.import_infos")
