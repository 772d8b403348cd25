"""Writes the HTML report of a run folder, finished or not."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.report.page import write_report
from sead_ray.stages.plan import require_prepared
from sead_ray.storage import Store


def plan(config: RunConfig) -> str:
    return f"Would write the report of {Store(config.run_dir).root}."


def job(config: RunConfig) -> str:
    run = Store(config.run_dir)
    require_prepared(run)
    return f"Report: {write_report(run, config.data.root, config)}"


if __name__ == "__main__":
    run_job(__doc__, job, plan, prog="python -m jobs.write_report")
