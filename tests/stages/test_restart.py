"""SIGKILL in the middle of training and of scoring: started again, the run ends with the same purchases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.storage import Store

STUCK_S = 300


def _start(config_file: Path, repository: Path) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "jobs.run_rounds", "--config", str(config_file)]
    return subprocess.Popen(command, cwd=repository, env=environment, start_new_session=True)


def _kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STUCK_S
    while not reached():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run is stuck"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_run_ends_with_the_same_selections(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path, repository: Path
) -> None:
    train = loop_config.train.model_copy(update={"checkpoint_steps": 1})  # killed in the middle of an epoch
    config = loop_config.model_copy(update={"run_dir": str(tmp_path / "run"), "train": train})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    run = Store(config.run_dir)
    parts = Path(run.path(layout.score_parts(1)))

    def a_step_is_done() -> bool:
        return any(Path(run.path(layout.train_storage(0))).glob("*/checkpoint_*"))

    _kill_when(_start(file, repository), a_step_is_done)
    assert not run.is_published(layout.model(0))
    _kill_when(_start(file, repository), lambda: any(parts.glob("*/*.parquet")))
    assert not run.is_published(layout.scores(1))
    last = _start(file, repository)
    assert last.wait(timeout=STUCK_S) == 0
    for number in (0, 1):
        assert run.read_bytes(layout.selection_file(number)) == loop_run.read_bytes(layout.selection_file(number))
        weights = f"{layout.model(number)}/weights.safetensors"
        ours, theirs = load_file(run.path(weights)), load_file(loop_run.path(weights))
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert run.exists(layout.REPORT)
