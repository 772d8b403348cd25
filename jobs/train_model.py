"""Trains the model of round --round from scratch on everything bought so far."""

from __future__ import annotations

from jobs.round_job import RoundConfig, main, prepared_run, require
from sead_ray.stages import layout
from sead_ray.stages.rounds import train_round


def job(config: RoundConfig) -> str:
    with prepared_run(config) as run:
        require(run, layout.selection(config.round), f"jobs.select_clips --round {config.round}")
        train_round(run, config.run, config.round)
        facts = run.manifest(layout.model(config.round))
    return f"Model {facts['model_version']} after {facts['steps']} steps: {run.path(layout.model(config.round))}"


if __name__ == "__main__":
    main(__doc__, job, "python -m jobs.train_model")
