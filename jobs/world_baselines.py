"""Trains and evaluates planners on the embedded world's simulation: how much better is it to know agents and map?

Prints the table of docs/world.md within some minutes. No image is made.
"""

from __future__ import annotations

import torch
from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import Schema, WorldConfig
from sead_ray.cpus import usable_cpus
from sead_ray.evaluation.world_planners import compare, gap
from sead_ray.evaluation.world_samples import Samples, drive_world
from sead_ray.stages.progress import Progress, say


class BaselineConfig(Schema):
    """Settings of this job."""

    scenes: int = Field(default=500, ge=20)
    frames: int = Field(default=40, ge=10)
    seed: int = 0
    processes: int | None = Field(default=None, ge=1)
    """Worker processes; null: one per CPU. The result does not depend on it."""


def plan(config: BaselineConfig) -> str:
    return f"Would drive {config.scenes} scenes x {config.frames} frames and train two planners on four fifths of them."


def job(config: BaselineConfig) -> str:
    torch.set_num_threads(1)  # small layers gain nothing from more
    world = WorldConfig(scenes=config.scenes, frames=config.frames, seed=config.seed)
    scenes = []
    with Progress("drive", config.scenes, "scene") as progress:
        for scene in drive_world(world, config.processes or usable_cpus()):
            scenes.append(scene)
            progress.advance()
    manoeuvres = {scene.clip for scene in scenes if scene.manoeuvre}
    train, val = (Samples.joined([s.samples for s in scenes if s.split == split]) for split in ("train", "val"))
    say(f"train: two planners on {len(train.clip)} frames; {len(val.clip)} frames of other logs are planned")
    results = compare(train, val, manoeuvres, config.seed)
    lines = [
        "| planner | L2 1 s | 2 s | 3 s | average | average in clips with manoeuvres |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        numbers = (*result.l2_m, result.average_m, result.average_manoeuvres_m)
        lines.append(f"| {result.name} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
    return "\n".join([*lines, "", f"Gap in clips with manoeuvres: {gap(results):.0%}"])


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BaselineConfig, prog="python -m jobs.world_baselines")
