"""Turns a nuScenes folder, or logs of py123d, into clips.parquet (no label in it) and labels.parquet of the run folder.

Runs on Ray over scenes; start it again to go on where it was. --verify decodes every image first and reports all
missing or broken files in verify/report.json; nothing is published, and the exit code is 2, where there are any.
"""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.rounds import claim_config, located
from sead_ray.storage import Store


class PrepareJobConfig(RunConfig):
    verify: bool = False
    """Decode every image, and report missing or broken files by clip without stopping at the first."""


def job(config: RunConfig) -> str:
    verify = isinstance(config, PrepareJobConfig) and config.verify
    config = _run_config(config)
    run = Store(config.run_dir)
    with driver_lock(run):
        claim_config(run, config)
        ensure_world(config)
        prepare(run, config, verify)
    facts = run.manifest(layout.CLIPS)
    return (
        f"{facts['pool_clips']} pool clips ({facts['pool_frames']} frames), {facts['val_clips']} val clips "
        f"({facts['val_frames']} frames): {run.path(layout.CLIPS_FILE)}, {run.path(layout.LABELS_FILE)}"
    )


def plan(config: RunConfig) -> str:
    return describe_plan(_run_config(config))


def _run_config(config: RunConfig) -> RunConfig:
    return located(RunConfig.model_validate(config.model_dump(exclude={"verify"})))


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=PrepareJobConfig, prog="python -m jobs.prepare_clips")
