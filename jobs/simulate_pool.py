"""Scores a simulated pool of a million clips: the real pipeline, with a decoder and a model that return at once.

Shows what the pipeline itself costs: the driver's memory, the object store, throughput by tenths of the pool, and what
is repeated after the driver was killed. The scores mean nothing; their model version is "stand-in".
"""

from __future__ import annotations

from jobs.cli import run_job
from jobs.figures import require_folder, write_figures
from sead_ray.stages.simulate_pool import PoolSimulation, describe, simulate_pool


class SimulatePoolConfig(PoolSimulation):
    output: str | None = None
    """JSON file for the figures; None: print them only."""


def plan(config: SimulatePoolConfig) -> str:
    killed = f", killed and started again at {config.kill_at:.0%}" if config.kill_at else ""
    return (
        f"Would score {config.clips:,} clips of {config.frames} frames below {config.run_dir} with a stand-in decoder "
        f"and a stand-in model, which return at once{killed}."
    )


def job(config: SimulatePoolConfig) -> str:
    require_folder(config.output)
    figures = simulate_pool(PoolSimulation.model_validate(config.model_dump(exclude={"output"})))
    write_figures(config.output, figures)
    return describe(figures)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=SimulatePoolConfig, prog="python -m jobs.simulate_pool")
