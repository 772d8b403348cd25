"""CPU nodes decode, GPU nodes infer: on a local cluster with labels, custom resources and a logical GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_decoders_run_on_the_cpu_node_and_the_model_on_the_gpu_node(tmp_path: Path, repository: Path) -> None:
    """In a process of its own, since the session's Ray is another cluster."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = str(repository)
    script = str(repository / "tests" / "cluster" / "mixed_nodes.py")
    command = [sys.executable, script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer == {"n_clips": 300, "ran": ["decoder on cpu", "model on gpu"]}
