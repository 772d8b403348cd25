"""Scripts that run Triton's kernels: on a GPU where there is one, else by Triton's interpreter, which a process must be
started with."""

from __future__ import annotations

import os
import subprocess
import sys

import torch


def run(script: str) -> str:
    """What it prints; fails the test where it fails."""
    environment = {**os.environ}
    if not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
