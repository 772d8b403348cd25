"""Runs SEAD's active-learning rounds to the budget; start it again to go on where it was."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.report.rounds import format_table, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.rounds import run_rounds


def job(config: RunConfig) -> str:
    run = run_rounds(config)
    lines = [format_table(rounds_table(run)), config.notice, f"Report: {run.path(layout.REPORT)}"]
    return "\n".join(line for line in lines if line)


if __name__ == "__main__":
    run_job(__doc__, job, describe_plan, prog="python -m jobs.run_rounds")
