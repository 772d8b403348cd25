"""How many CPU cores there are to work with."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Cores that this process may run on: fewer than the machine has under `taskset` or a container's cpuset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
