"""Writes what a round asks annotators for as files of an annotation tool: only the bought frames, with neighbours
marked as context (labels.context_frames on either side)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.cli import run_job
from jobs.round_job import OnRunConfig
from sead_ray.labels.task import LabelTask
from sead_ray.stages import layout
from sead_ray.stages.labels_out import export_labels, newest_request, requested_tasks
from sead_ray.storage import Store


class ExportLabelsConfig(OnRunConfig):
    to: Literal["nuscenes", "cvat", "label_studio", "ground_truth", "navsim", "fiftyone"] = "nuscenes"
    """nuscenes: list of sample tokens; cvat: archives of 3D tasks; label_studio: tasks of six images; ground_truth:
    SageMaker's sequence manifest; navsim: a scene filter; fiftyone: an image dataset."""
    round: int | None = Field(default=None, ge=0)
    """Default: the newest round that asked for labels."""
    output: str | None = None
    """Folder to write to; default <run>/rounds/NN/labels_out/<tool>."""
    files_at: str = ""
    """Where the exported folder will lie for the tool (ground_truth: s3://bucket/folder)."""
    images_at: str = ""
    """What the tool puts before an image's path below data.root (label_studio, fiftyone): https://…/, s3://…/."""


def plan(config: ExportLabelsConfig) -> str:
    number, tasks = _request(config)
    return f"Would export {_size(number, tasks)} for {config.to}."


def job(config: ExportLabelsConfig) -> str:
    number, tasks = _request(config)
    folder = config.output or Store(config.run_dir).path(layout.labels_out(number, config.to))
    target = Store(folder)
    keys = export_labels(tasks, config.run, config.to, target, config.files_at, config.images_at)
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    return f"{_size(number, tasks).capitalize()}.\n{target.root}: {', '.join(keys[:4])}{more}"


def _request(config: ExportLabelsConfig) -> tuple[int, list[LabelTask]]:
    run = Store(config.run_dir)
    number = newest_request(run, config.round)
    return number, requested_tasks(run, config.run, number)


def _size(number: int, tasks: list[LabelTask]) -> str:
    bought = sum(len(task.requested) for task in tasks)
    context = sum(len(task.frames) for task in tasks) - bought
    return f"round {number}: {len(tasks)} clips, {bought} frames to label and {context} of context"


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ExportLabelsConfig, prog="python -m jobs.export_labels")
