"""Measures the feature shift under several reductions: time a frame, and whether clips still rank as unreduced."""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages.ablate_shift import ablate_shift
from sead_ray.stages.plan import describe_plan


class AblateShiftConfig(RunConfig):
    clips: int | None = Field(default=None, ge=2)
    """At most so many clips of the pool; all by default. The rule that chooses k asks for 500."""


def job(config: AblateShiftConfig) -> str:
    return ablate_shift(_run(config), config.clips)


def plan(config: AblateShiftConfig) -> str:
    what = "Trains round 0 where the run has no model yet, then scores the pool under every reduction."
    return f"{describe_plan(_run(config))}\n{what}"


def _run(config: AblateShiftConfig) -> RunConfig:
    return RunConfig.model_validate(config.model_dump(include=set(RunConfig.model_fields)))


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=AblateShiftConfig, prog="python -m jobs.ablate_shift")
