"""CPU nodes decode, GPU nodes infer and train: on a local cluster with labels, custom resources and logical GPUs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.storage import Store


def test_decoders_run_on_the_cpu_node_and_a_growing_pool_of_models_on_the_gpu_node(
    tiny_run: Store, tiny_config: RunConfig, tmp_path: Path, repository: Path
) -> None:
    """In a process of its own, since the session's Ray is another cluster."""
    run = Store(str(tmp_path / "trained"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(tiny_run.path(folder), run.path(folder))
    config = tmp_path / "config.json"
    config.write_text(tiny_config.model_copy(update={"run_dir": run.root}).model_dump_json())
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(repository)
    script = str(repository / "tests" / "cluster" / "mixed_nodes.py")
    command = [sys.executable, script, str(tmp_path), str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"n_clips": 300, "ran": ["decoder on cpu", "model on gpu"], "models": 2, "steps": 4}
