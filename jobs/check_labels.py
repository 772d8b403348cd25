"""Points at likely label errors: where a model of the run disagrees with the labels of the bought frames, most
suspicious first. Missing, wrongly named, invented and displaced boxes; jobs.view_clip shows them."""

from __future__ import annotations

from pydantic import Field

from jobs.cli import run_job
from jobs.round_job import OnRunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.check_labels import check_labels, requested_frames_so_far, suspect_row
from sead_ray.stages.plan import require_prepared
from sead_ray.stages.view_clip import newest_model
from sead_ray.storage import Store


class CheckLabelsConfig(OnRunConfig):
    round: int | None = Field(default=None, ge=0)
    """Whose model looks; default: the newest. It was trained on some of these labels, which makes it forgiving: labels
    of a round that waits for training are checked best."""
    min_score: float = Field(default=0.1, ge=0, le=1)
    """Leave out what is less suspicious."""
    show: int = Field(default=20, ge=1)
    """Lines printed; all are written to <run>/rounds/NN/label_check.json."""


def plan(config: CheckLabelsConfig) -> str:
    run, number = _run_and_round(config)
    frames = requested_frames_so_far(run)
    return (
        f"Would check up to {sum(map(len, frames.values()))} frames of {len(frames)} clips by round {number}'s model."
    )


def job(config: CheckLabelsConfig) -> str:
    run, number = _run_and_round(config)
    suspects = check_labels(run, config.run, number, config.min_score)
    run.write_json(layout.label_check(number), [suspect_row(item) for item in suspects])
    lines = [
        f"{item.score:.2f}  {item.kind:8}  clip {item.clip_token} frame {item.frame_index}: {item.describe()}"
        for item in suspects[: config.show]
    ]
    return "\n".join([*lines, f"{len(suspects)} suspicious labels: {run.path(layout.label_check(number))}"])


def _run_and_round(config: CheckLabelsConfig) -> tuple[Store, int]:
    run = Store(config.run_dir)
    require_prepared(run)
    number = newest_model(run, config.round)
    if number is None:
        raise InputError(f"{run.root} has no model yet: the first round's labels cannot be checked by one.")
    return run, number


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=CheckLabelsConfig, prog="python -m jobs.check_labels")
