"""Measures preparation at nuScenes' size: time and peak memory of jobs.prepare_clips with all processes of Ray.

Writes a folder of many scenes first (tables and CAN files; images are shared), unless it is there.
"""

from __future__ import annotations

import sys

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import Schema
from sead_ray.errors import InputError
from sead_ray.stages.measure import measure
from sead_ray.synthetic.large_folder import write_large_folder


class BenchPrepareConfig(Schema):
    root: str = "data/bench_prepare"
    """Where the folder is written; kept for the next time."""
    run_dir: str = "runs/bench_prepare"
    """A run folder that is there goes on where it was."""
    scenes: int = Field(default=850, ge=6)
    frames: int = Field(default=40, ge=8)
    sweeps_per_frame: int = Field(default=65, ge=0)
    annotations_per_frame: int = Field(default=34, ge=0)
    workers: int = Field(default=2, ge=1)


def plan(config: BenchPrepareConfig) -> str:
    rows = config.scenes * config.frames * (7 + config.sweeps_per_frame)
    return f"{config.scenes} scenes x {config.frames} frames, {rows} rows of sample_data, at {config.root}"


def job(config: BenchPrepareConfig) -> str:
    write_large_folder(config.root, config.scenes, config.frames, config.sweeps_per_frame, config.annotations_per_frame)
    command = [sys.executable, "-m", "jobs.prepare_clips", "--data.root", config.root, "--run_dir", config.run_dir]
    measured = measure([*command, "--prepare.max_workers", str(config.workers)])
    if measured.return_code:
        raise InputError(f"jobs.prepare_clips ended with code {measured.return_code}.")
    return (
        f"{config.scenes} scenes x {config.frames} frames, {config.workers} workers: {measured.seconds:.0f} s, peak "
        f"{measured.peak_bytes / 2**30:.2f} GiB (proportional set size of {measured.peak_processes} processes)"
    )


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchPrepareConfig, prog="python -m jobs.bench_prepare")
