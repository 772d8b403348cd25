"""A training is the same training, whatever the number of its workers: each step's loss is of the same global batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.score import pool_tokens
from sead_ray.stages.train import train_model
from sead_ray.storage import Store

FRAMES = 5  # in batches of two: of the last one the second worker has no sample


def losses(workers: int, prepared: Store, tiny: RunConfig, folder: Path) -> list[dict[str, Any]]:
    run = Store(str(folder / f"of_{workers}"))
    for key in (layout.CLIPS, layout.LABELS):
        shutil.copytree(prepared.path(key), run.path(key))
    # What is drawn by rank would differ: no augmentation, and vad_nano has no dropout.
    changes = {"num_workers": workers, "cpus_per_worker": 0.5, "global_batch": 2, "epochs": 2, "augment": False}
    train = tiny.train.model_copy(update={**changes, "checkpoint_steps": 1})
    config = tiny.model_copy(update={"run_dir": run.root, "train": train})
    train_model(run, config, 0, {pool_tokens(run)[0].as_py(): list(range(FRAMES))})
    lines = run.read_bytes(f"{layout.model(0)}/metrics.jsonl").decode().splitlines()
    return [json.loads(line) for line in lines]


def test_one_worker_and_two_have_the_same_losses(tiny_run: Store, tiny_config: RunConfig, tmp_path: Path) -> None:
    one, two = (losses(workers, tiny_run, tiny_config, tmp_path) for workers in (1, 2))
    assert [[entry["step"] for entry in entries] for entries in (one, two)] == [[1, 2, 3, 4, 5, 6]] * 2
    assert [{entry["workers"] for entry in entries} for entries in (one, two)] == [{1}, {2}]
    for alone, together in zip(one, two):
        assert together["losses"] == pytest.approx(alone["losses"], rel=2e-3, abs=1e-5)
    assert len({entry["loss"] for entry in one}) == 6
