"""Measures the report of a large pool: its size, how long it takes to write, how soon a browser has it ready."""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import Schema
from sead_ray.stages.bench_report import measure_report
from sead_ray.storage import Store


class BenchReportConfig(Schema):
    run_dir: str = "runs/bench_report"
    """Folder of the made-up run."""
    clips: int = Field(default=10_000, ge=100)


def plan(config: BenchReportConfig) -> str:
    return f"Would make up a run of {config.clips} clips in {Store(config.run_dir).root} and write its report."


def job(config: BenchReportConfig) -> str:
    return measure_report(Store(config.run_dir), config.clips)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchReportConfig, prog="python -m jobs.bench_report")
