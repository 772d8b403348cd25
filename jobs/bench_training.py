"""Measures training: a step alone by batch size, split by part, on data in the GPU's memory; and end to end from JPEGs
of 1600x900 through Ray Train, with one or several workers.

Makes a world first, unless it is there. Prints rows for tables.
"""

from __future__ import annotations

import shlex
import sys
from functools import partial

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.benchmark.training import TrainingBenchConfig, markdown
from sead_ray.stages.bench_training import bench_training

PROG = "python -m jobs.bench_training"


class BenchTrainingConfig(TrainingBenchConfig):
    output: str | None = None
    """JSON file for the figures, loss curves included; None: print them only."""


def plan(config: BenchTrainingConfig) -> str:
    parts = []
    if config.alone:
        parts.append(f"a training step of {config.model.preset} alone with {config.batches} samples")
    if config.workers:
        parts.append(
            f"trainings of {config.steps} steps with {config.workers} workers on {config.scenes} generated scenes of "
            f"{config.image_width}x{config.image_height} at {config.root}"
        )
    return f"Would measure {'; '.join(parts) or 'nothing'}."


def job(config: BenchTrainingConfig) -> str:
    require_folder(config.output)
    settings = TrainingBenchConfig.model_validate(config.model_dump(exclude={"output"}))
    command = shlex.join([*PROG.split(), *sys.argv[1:]])
    return markdown(bench_training(settings, command, keep=partial(write_figures, config.output)))


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchTrainingConfig, prog=PROG)
