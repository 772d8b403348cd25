"""Takes labels that annotators deliver for a round: checks every row, shows what changes, merges all in one step.

--dry-run checks and shows only. Deliveries may be partial; a frame that comes again replaces its labels, until the
round is trained. Where anything is wrong, the rows are named and nothing is changed.
"""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from jobs.round_job import OnRunConfig
from jobs.run_rounds import job as run_rounds_job
from sead_ray.errors import InputError
from sead_ray.stages.labels_in import CheckedDelivery, Form, check_delivery, merge_delivery
from sead_ray.stages.labels_out import newest_request
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.rounds import claim_config
from sead_ray.storage import Store


class ImportLabelsConfig(OnRunConfig):
    source: str = ""
    """What came: a folder of nuScenes tables (sample_annotation.json, instance.json, …), or CVAT's "Datumaro 3D 1.0"
    export: a zip, or a folder of zips."""
    source_format: Form = "auto"
    round: int | None = Field(default=None, ge=0)
    """Default: the newest round that asked for labels."""
    complete: bool = False
    """The delivered clips are finished: requested frames of them without any box are empty, not missing."""
    resume: bool = False
    """Go on with the waiting round (jobs.run_rounds) once all of its labels are there."""


def plan(config: ImportLabelsConfig) -> str:
    number, checked = _checked(config)
    return f"Would merge into round {number}:\n{checked.diff.describe()}\n{_left(number, checked)}"


def job(config: ImportLabelsConfig) -> str:
    run = Store(config.run_dir)
    with driver_lock(run):
        number, checked = _checked(config)
        claim_config(run, config.run)
        file = merge_delivery(run, config.run, number, checked)
    answer = f"Merged into {file}:\n{checked.diff.describe()}\n{_left(number, checked)}"
    if not config.resume or checked.diff.missing:
        return answer
    print(answer, flush=True)
    return run_rounds_job(config.run)


def _checked(config: ImportLabelsConfig) -> tuple[int, CheckedDelivery]:
    if not config.source:
        raise InputError("--source names the folder or zip that the annotators sent.")
    run = Store(config.run_dir)
    number = newest_request(run, config.round)
    return number, check_delivery(run, config.run, number, config.source, config.source_format, config.complete)


def _left(number: int, checked: CheckedDelivery) -> str:
    missing = checked.diff.missing
    if missing:
        return (
            f"Round {number} still waits for {len(missing)} frame(s), the first is {missing[0]} (with --complete, "
            "frames without a box count as labelled)."
        )
    return f"Round {number} has all its labels: start jobs.run_rounds again, or import with --resume."


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ImportLabelsConfig, prog="python -m jobs.import_labels")
