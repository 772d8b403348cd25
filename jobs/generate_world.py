"""Generates the embedded driving world as a nuScenes folder at data.root (settings under world.*)."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages.prepare import generate


def plan(config: RunConfig) -> str:
    world = config.world
    images = world.scenes * world.frames * 6
    size = f"{world.image_width}x{world.image_height}"
    scenes = f"{world.scenes} scenes x {world.frames} frames"
    return f"{scenes}, {images} images of {size}, seed {world.seed}, at {config.data.root}"


def job(config: RunConfig) -> str:
    generate(config.world, config.data.root)
    return f"World: {config.data.root}"


if __name__ == "__main__":
    run_job(__doc__, job, plan, prog="python -m jobs.generate_world")
