"""Trains and evaluates planners on the embedded world's simulation: how much better is it to know agents and map?

Prints the table of docs/world.md. No image is made.
"""

from __future__ import annotations

import torch
from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import Schema, WorldConfig
from sead_ray.evaluation.world_planners import compare, gap
from sead_ray.evaluation.world_samples import Samples, samples_of
from sead_ray.stages.progress import Progress
from sead_ray.synthetic.episode import drive
from sead_ray.synthetic.plan import plan_world
from sead_ray.synthetic.truth import measure


class BaselineConfig(Schema):
    """Settings of this job."""

    scenes: int = Field(default=500, ge=20)
    frames: int = Field(default=40, ge=10)
    seed: int = 0


def plan(config: BaselineConfig) -> str:
    return f"Would drive {config.scenes} scenes x {config.frames} frames and train two planners on four fifths of them."


def job(config: BaselineConfig) -> str:
    torch.set_num_threads(1)  # small layers gain nothing from more
    parts: dict[str, list[Samples]] = {"train": [], "val": []}
    manoeuvres = set()
    plans = plan_world(WorldConfig(scenes=config.scenes, frames=config.frames, seed=config.seed))
    with Progress("drive", len(plans), "scene") as progress:
        for scene in plans:
            episode = drive(scene.log.location, config.seed, scene.number, config.frames, scene.scenario)
            parts[scene.log.split].append(samples_of(episode, scene.number))
            if measure(episode).ego_manoeuvre != "straight":
                manoeuvres.add(scene.number)
            progress.advance()
    results = compare(Samples.joined(parts["train"]), Samples.joined(parts["val"]), manoeuvres, config.seed)
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
