"""Writes the HTML report of a run folder, finished or not."""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.report.page import write_report
from sead_ray.stages.plan import require_prepared
from sead_ray.storage import Store


class WriteReportConfig(RunConfig):
    seed_runs: list[str] = Field(default=[])
    """Run folders of the same configuration with other seeds: the curves show their mean and its 95 % interval."""

    @property
    def run(self) -> RunConfig:
        return RunConfig.model_validate(self.model_dump(include=set(RunConfig.model_fields)))


def plan(config: WriteReportConfig) -> str:
    return f"Would write the report of {Store(config.run_dir).root}."


def job(config: WriteReportConfig) -> str:
    run = Store(config.run_dir)
    require_prepared(run)
    others = [Store(folder) for folder in config.seed_runs]
    for other in others:
        require_prepared(other)
    return f"Report: {write_report(run, config.data.root, config.run, others)}"


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=WriteReportConfig, prog="python -m jobs.write_report")
