"""Two training workers, one of them killed: the training goes on from the last epoch's checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.select import read_pool
from sead_ray.stages.train import train_model
from sead_ray.storage import Store

EPOCHS = 4


def _kill_a_worker_after_the_first_epoch(storage: Path, killed: list[int]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not killed:
        if any(storage.glob("*/checkpoint_*")):
            for process in psutil.process_iter(["cmdline"]):
                if "RayTrainWorker" in " ".join(process.info["cmdline"] or []):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
        time.sleep(0.05)


def test_a_killed_worker_is_replaced(loop_run: Store, loop_config: RunConfig, tmp_path: Path) -> None:
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    train = loop_config.train.model_copy(update={"num_workers": 2, "cpus_per_worker": 0.5, "epochs": EPOCHS})
    config = loop_config.model_copy(update={"run_dir": run.root, "train": train})
    pool = read_pool(run, config)
    bought = {clip.clip_token: list(range(clip.n_frames)) for clip in pool.clips[:3]}
    killed: list[int] = []
    storage = Path(run.path(layout.train_storage(0)))
    killer = threading.Thread(target=_kill_a_worker_after_the_first_epoch, args=(storage, killed))
    killer.start()
    train_model(run, config, 0, bought)
    killer.join()
    assert killed
    facts = run.manifest(layout.model(0))
    assert facts["epochs"] == EPOCHS
    lines = Path(run.path(f"{layout.model(0)}/metrics.jsonl")).read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))  # every logged step once, in order: nothing was trained twice into the result
    assert steps[-1] == facts["steps"] == EPOCHS * 6
