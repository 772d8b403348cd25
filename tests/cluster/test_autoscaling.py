"""Ray's autoscaler brings the nodes that scoring asks for, and takes them back; minutes, so left out of `make test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_scoring_grows_to_four_nodes_loses_one_and_shrinks_to_the_head(repository: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.cluster.autoscale_scoring"]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "preempted" in done.stdout
    assert "the cluster is its head again" in done.stdout
    assert "identical: " in done.stdout
