"""Prints how long pools take on how many GPUs, from the frames a second that jobs.bench_scoring measured on one."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.benchmark.sizing import Sizing, sizing_tables


def plan(sizing: Sizing) -> str:
    return f"Would print tables for {sizing.clips} clips on {sizing.gpus} GPUs."


if __name__ == "__main__":
    run_job(__doc__, sizing_tables, plan, schema=Sizing, prog="python -m jobs.size_cluster")
