"""Turns a nuScenes folder into clips.parquet (no label in it) and labels.parquet, in the run folder."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.rounds import claim_config
from sead_ray.storage import Store


def job(config: RunConfig) -> str:
    run = Store(config.run_dir)
    with driver_lock(run):
        claim_config(run, config)
        ensure_world(config)
        prepare(run, config)
    facts = run.manifest(layout.CLIPS)
    return (
        f"{facts['pool_clips']} pool clips ({facts['pool_frames']} frames), {facts['val_clips']} val clips "
        f"({facts['val_frames']} frames): {run.path(layout.CLIPS_FILE)}, {run.path(layout.LABELS_FILE)}"
    )


if __name__ == "__main__":
    run_job(__doc__, job, describe_plan, prog="python -m jobs.prepare_clips")
