"""The whole circle: a round asks for labels, annotators deliver them through their tool, and it goes on as if the
data set's own labels had been there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.import_labels import ImportLabelsConfig, job
from sead_ray.config import RunConfig
from sead_ray.errors import LabelsPending
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.stages import layout
from sead_ray.stages.labels_out import export_labels, requested_tasks
from sead_ray.stages.rounds import run_rounds
from sead_ray.stages.select import read_selection
from sead_ray.storage import Store
from tests.labels.annotators import cvat_document, write_cvat


def test_labels_through_cvat_lead_to_the_oracles_selection(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path
) -> None:
    waiting = loop_config.model_copy(
        update={
            "run_dir": str(tmp_path / "run"),
            "labels": loop_config.labels.model_copy(update={"mode": "wait"}),
            "evaluate": loop_config.evaluate.model_copy(update={"perception": False}),
        }
    )
    run = Store(waiting.run_dir)
    with pytest.raises(LabelsPending):
        run_rounds(waiting)
    tasks = requested_tasks(run, waiting, 0)
    exported = Store(str(tmp_path / "out"))
    archives = [key for key in export_labels(tasks, waiting, "cvat", exported) if key.endswith(".zip")]
    assert len(archives) == len(tasks) > 1

    folder = NuScenesFolder(waiting.data)
    for number, task in enumerate(tasks):  # one annotator after the other sends what he has
        truth = {labels.frame_token: labels for labels in folder.labels(task.clip.clip_token)}
        delivered = cvat_document(task, truth)
        source = write_cvat(tmp_path / f"in{number}" / Path(archives[number]).name, delivered)
        answer = job(ImportLabelsConfig(**waiting.model_dump(), source=source, complete=True))
        assert ("still waits" in answer) == (number < len(tasks) - 1)

    with pytest.raises(LabelsPending):  # now for round 1
        run_rounds(waiting)
    assert run.is_published(layout.evaluation(0))
    # Two trainings on several threads differ in the last digits of a score.
    ours, oracles = ([replace(row, score=None) for row in read_selection(store, 1)] for store in (run, loop_run))
    assert ours == oracles
