"""Scores the rest of the pool with the model of the round before --round."""

from __future__ import annotations

from jobs.round_job import RoundConfig, main, prepared_run, require
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import bought_before


def job(config: RoundConfig) -> str:
    if config.round == 0:
        raise InputError("Round 0 selects without scores: give --round 1 or more.")
    with prepared_run(config) as run:
        require(run, layout.model(config.round - 1), f"jobs.train_model --round {config.round - 1}")
        taken = {item.clip_token for item in bought_before(run, config.round)}
        score_pool(run, config.run, config.round, layout.model(config.round - 1), exclude=taken)
        facts = run.manifest(layout.scores(config.round))
    return f"{facts['n_clips']} clips scored, {facts['n_failed']} failed: {run.path(layout.scores_file(config.round))}"


if __name__ == "__main__":
    main(__doc__, job, "python -m jobs.score_pool")
