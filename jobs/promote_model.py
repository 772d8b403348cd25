"""Makes a model the one that the scoring service serves, after it has scored the run's calibration set; a running
service loads it beside the old one, tries it, and switches. With --roll_back the model before comes back.
"""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages.promote import chosen_model, newest_round, promote_model
from sead_ray.stages.registry import Promotion, Registry
from sead_ray.stages.rounds import located
from sead_ray.storage import Store


class PromoteConfig(RunConfig):
    round: int | None = Field(default=None, ge=0)
    """Round whose model is promoted; null: the newest that is published."""
    model_dir: str = ""
    """A model from elsewhere instead (jobs.import_checkpoint); it is copied into the run folder."""
    calibration_clips: int = Field(default=200, ge=0)
    """Of the calibration set, which is fixed at the first promotion. 0: none, and percentiles stay null."""
    roll_back: bool = False
    """Bring the model before back instead."""

    @property
    def run(self) -> RunConfig:
        return located(RunConfig.model_validate(self.model_dump(include=set(RunConfig.model_fields))))


def plan(config: PromoteConfig) -> str:
    run = Store(config.run_dir)
    serving = Registry(run).current()
    now = f"{serving.model_version} is served" if serving else "nothing is promoted yet"
    if config.roll_back:
        before = Registry(run).previous()
        if before is None:
            raise InputError(f"{run.root} has no earlier model to go back to: promote another one instead.")
        return f"Would bring back {before.model_version}; {now}."
    newest = newest_round(run) if config.round is None and not config.model_dir else config.round
    return f"Would promote {config.model_dir or f'round {newest}'} of {run.root}; {now}."


def job(config: PromoteConfig) -> str:
    run = Store(config.run_dir)
    if config.roll_back:
        return f"Rolled back to {_named(Registry(run).roll_back())}"
    key = chosen_model(run, config.round, config.model_dir)
    return f"Promoted {_named(promote_model(run, config.run, key, config.calibration_clips))}"


def _named(line: Promotion) -> str:
    return f"{line.model_version} ({line.key})."


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=PromoteConfig, prog="python -m jobs.promote_model")
