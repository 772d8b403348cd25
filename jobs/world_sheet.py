"""Draws one front picture of each scene of an embedded world on one sheet, to be looked at."""

from __future__ import annotations

from pathlib import Path

from jobs.cli import run_job
from sead_ray.config import Schema, WorldConfig
from sead_ray.synthetic.pictures import contact_sheet, jpeg


class SheetConfig(Schema):
    """Settings of this job."""

    world: WorldConfig = WorldConfig(image_width=256, image_height=144, frames=20)
    out: str = "world_sheet.jpg"
    quality: int = 80


def plan(config: SheetConfig) -> str:
    return f"Would draw {config.world.scenes} scenes on {config.out}."


def job(config: SheetConfig) -> str:
    Path(config.out).write_bytes(jpeg(contact_sheet(config.world), config.quality))
    return config.out


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=SheetConfig, prog="python -m jobs.world_sheet")
