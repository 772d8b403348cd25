"""Scores the rest of the pool with the model of the round before --round, or with the one in --model_dir."""

from __future__ import annotations

from jobs.cli import run_job
from jobs.round_job import RoundConfig, prepared_run, require
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.adopt import adopt_model
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import scoring_scope
from sead_ray.storage import Store


class ScoreConfig(RoundConfig):
    model_dir: str = ""
    """A model from elsewhere (jobs.import_checkpoint), also for round 0; empty: the round before's."""


def model_key(run: Store, config: ScoreConfig) -> str:
    """Where in the run the model lies; one from elsewhere is copied there first."""
    if config.model_dir:
        if not run.is_published(layout.scores(config.round)):
            adopt_model(run, config.model_dir, layout.adopted_model(config.round), config.image)
        return layout.adopted_model(config.round)
    if config.round == 0:
        raise InputError("Round 0 selects without scores: give --round 1 or more, or a --model_dir.")
    require(run, layout.model(config.round - 1), f"jobs.train_model --round {config.round - 1}")
    return layout.model(config.round - 1)


def job(config: ScoreConfig) -> str:
    with prepared_run(config) as run:
        key = model_key(run, config)
        scope = scoring_scope(run, config.run, config.round)
        score_pool(run, config.run, config.round, key, **scope)
        facts = run.manifest(layout.scores(config.round))
    return f"{facts['n_clips']} clips scored, {facts['n_failed']} failed: {run.path(layout.scores_file(config.round))}"


if __name__ == "__main__":
    run_job(
        __doc__, job, lambda config: describe_plan(config.run), schema=ScoreConfig, prog="python -m jobs.score_pool"
    )
