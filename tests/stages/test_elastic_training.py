"""A training that begins with one worker and goes on with two when the cluster grows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.train import train_model
from sead_ray.storage import Store

EPOCHS, FRAMES, BATCH = 10, 16, 4


def history(run: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.read_bytes(f"{layout.model(0)}/metrics.jsonl").splitlines()]


def test_more_workers_change_who_trains_and_nothing_else(
    tiny_run: Store, loop_config: RunConfig, tmp_path: Path, repository: Path
) -> None:
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(tiny_run.path(folder), run.path(folder))
    settings = {"num_workers": [1, 2], "resize_every_s": 1, "epochs": EPOCHS, "global_batch": BATCH, "max_failures": -1}
    train = loop_config.train.model_copy(update=settings)
    file = tmp_path / "config.json"
    file.write_text(loop_config.model_copy(update={"run_dir": run.root, "train": train}).model_dump_json())
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(repository)
    command = [sys.executable, str(repository / "tests" / "stages" / "elastic_training.py"), str(file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    entries = history(run)
    steps = [entry["step"] for entry in entries]
    per_epoch = FRAMES // BATCH  # the same with one worker and with two: so is the global batch
    assert run.manifest(layout.model(0))["steps"] == steps[-1] == EPOCHS * per_epoch
    assert steps == sorted(set(steps))  # no step was trained twice into the result, none was left out
    assert [step for step in steps if step % per_epoch == 0] == list(range(per_epoch, steps[-1] + 1, per_epoch))
    workers = [entry["workers"] for entry in entries]
    assert workers[0] == 1
    assert workers[-1] == 2
    with_one = [entry["loss"] for entry in entries if entry["workers"] == 1]
    with_two = [entry["loss"] for entry in entries if entry["workers"] == 2]
    assert max(with_two) < 1.25 * with_one[-1]  # no jump where the workers changed


@pytest.mark.parametrize("value", [0, [0, 2], [3, 2], [1, 2, 3], [2], 1.5, "many", "[1,", True])
def test_what_is_no_number_of_workers_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="num_workers"):
        TrainConfig(num_workers=value)


def test_a_number_or_two_bounds_also_as_text() -> None:
    assert [TrainConfig(num_workers=value).num_workers for value in (4, "4", [2, 4], "[2, 4]")] == [
        4,
        4,
        [2, 4],
        [2, 4],
    ]
    assert [TrainConfig(num_workers=value).most_workers for value in (4, [2, 5])] == [4, 5]


@pytest.mark.usefixtures("ray_cluster")
def test_workers_without_a_sample_are_refused(tmp_path: Path) -> None:
    config = RunConfig(run_dir=str(tmp_path), train=TrainConfig(num_workers=[1, 9], global_batch=8))
    with pytest.raises(InputError, match="9 workers, but a batch has only the 8 samples"):
        train_model(Store(config.run_dir), config, 0, {"clip": [0, 1]})
