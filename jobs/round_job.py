"""What the jobs for a single stage of a single round share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.plan import describe_plan, require_prepared
from sead_ray.stages.rounds import claim_config, located
from sead_ray.storage import Store


class OnRunConfig(RunConfig):
    """The run's settings, and a job's own."""

    @property
    def run(self) -> RunConfig:
        return located(RunConfig.model_validate(self.model_dump(include=set(RunConfig.model_fields))))


class RoundConfig(OnRunConfig):
    round: int = Field(default=0, ge=0)
    """Number of the round, 0 the initial one."""


@contextmanager
def prepared_run(config: RoundConfig) -> Iterator[Store]:
    """The run folder, locked for this process, with clips prepared and this configuration."""
    if config.round >= len(config.select.rounds):
        raise InputError(f"round {config.round} does not exist: select.rounds has {len(config.select.rounds)} rounds.")
    run = Store(config.run_dir)
    with driver_lock(run):
        require_prepared(run)
        claim_config(run, config.run)
        yield run


def require(run: Store, folder: str, command: str) -> None:
    """Raises `InputError` where a stage that this one builds on is not published."""
    if not run.is_published(folder):
        raise InputError(f"{run.path(folder)} is not there yet: run {command} first.")


def main(description: str, job: Callable[[Any], str], prog: str, schema: type[RoundConfig] = RoundConfig) -> None:
    run_job(description, job, lambda config: describe_plan(config.run), schema=schema, prog=prog)
