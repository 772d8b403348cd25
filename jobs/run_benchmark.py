"""Runs the paper's benchmark, every arm with several seeds, and writes Tables 1 to 3 and Figure 5; restartable."""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages.benchmark import arms_of, run_benchmark
from sead_ray.stages.benchmark_cells import Cell, cell_config
from sead_ray.stages.plan import describe_plan
from sead_ray.storage import Store


class BenchmarkConfig(RunConfig):
    strategies: str = "all"
    """all, or presets separated by commas (`SELECT_PRESETS`, and `complete` for everything labelled)."""
    seeds: int = Field(default=3, ge=1)
    """Runs of each arm: seed, seed + 1, …"""
    at_once: int = Field(default=1, ge=1)
    """Runs at the same time; they share the GPUs (`train.gpus_per_worker` of each follows, where it is not set)."""


def job(config: BenchmarkConfig) -> str:
    return run_benchmark(_run(config), arms_of(config.strategies), config.seeds, config.at_once)


def plan(config: BenchmarkConfig) -> str:
    arms = arms_of(config.strategies)
    lines = [f"{len(arms)} arms x {config.seeds} seeds = {len(arms) * config.seeds} runs: {', '.join(arms)}."]
    root = Store(config.run_dir)
    lines += [describe_plan(cell_config(root, _run(config), Cell(arm, 0))) for arm in arms]
    return "\n\n".join(lines)


def _run(config: BenchmarkConfig) -> RunConfig:
    return RunConfig.model_validate(config.model_dump(include=set(RunConfig.model_fields)))


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchmarkConfig, prog="python -m jobs.run_benchmark")
