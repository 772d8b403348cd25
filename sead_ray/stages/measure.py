"""Time and memory of a command with all the processes that it starts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_S = 1.0


@dataclass(frozen=True)
class Measured:
    """`peak_bytes`: the largest sum of proportional set sizes seen (memory shared by n processes counts once)."""

    return_code: int
    seconds: float
    peak_bytes: int
    peak_processes: int


def measure(command: Sequence[str]) -> Measured:
    """Runs `command` to its end, and looks at /proc every second (Linux)."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    peak, most = 0, 0
    try:
        while process.poll() is None:
            family = _family(process.pid)
            peak, most = max(peak, sum(map(_proportional_bytes, family))), max(most, len(family))
            time.sleep(SAMPLE_EVERY_S)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return Measured(process.returncode, time.monotonic() - started, peak, most)


def _family(pid: int) -> list[int]:
    """`pid` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue  # ended meanwhile
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
