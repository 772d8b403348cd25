"""A stage that waits for what the cluster does not have ends by itself, and says what it waited for."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from sead_ray.config import PrepareConfig, RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.prepare import prepare
from sead_ray.stages.score import pool_tokens
from sead_ray.stages.train import train_model
from sead_ray.storage import Store
from tests.stages.free_cpus import wait_until_free


def test_training_without_a_place_for_its_workers(tiny_run: Store, tiny_config: RunConfig, tmp_path: Path) -> None:
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(tiny_run.path(folder), run.path(folder))
    train = tiny_config.train.model_copy(update={"cpus_per_worker": 99, "no_progress_timeout_s": 8})
    config = tiny_config.model_copy(update={"run_dir": run.root, "train": train})
    wait_until_free()  # what tests before left behind is not this training's
    started = time.monotonic()
    with pytest.raises(InputError, match=r"Training round 0 ended no step for 8 s: .*1 workers with 99 CPUs") as caught:
        train_model(run, config, 0, {pool_tokens(run)[0].as_py(): [0, 1]})
    assert time.monotonic() - started < 90
    assert "of 2 CPU free" in str(caught.value)
    assert "no GPU" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not run.is_published(layout.model(0))
    wait_until_free()  # the training left nothing behind that holds what others need


def test_preparation_without_a_place_for_its_tasks(tiny_config: RunConfig, tmp_path: Path, ray_cluster: None) -> None:
    size = PrepareConfig(cpus_per_worker=99, no_progress_timeout_s=8)
    config = tiny_config.model_copy(update={"run_dir": str(tmp_path / "run"), "prepare": size})
    with pytest.raises(InputError, match=r"99"):
        prepare(Store(config.run_dir), config)
    assert not Store(config.run_dir).is_published(layout.CLIPS)
