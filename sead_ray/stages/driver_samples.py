"""What a driver and the Ray that it started take, once a second: memory, the object store, processor time (Linux)."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

EVERY_S = 1.0
TICKS = os.sysconf("SC_CLK_TCK")


class Sampler:
    """Writes a line a second into `file`, until stopped: seconds since `started`, clips counted, memory, CPU time."""

    def __init__(self, file: str, started: float) -> None:
        self.done = 0
        self._first_s: float | None = None
        self._cpu = CpuTime(os.getpid())
        self._file, self._started = file, started
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def count(self, _row: dict[str, Any]) -> None:
        self.done += 1
        if self._first_s is None:
            self._first_s = time.monotonic() - self._started

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(EVERY_S)
            sample = {
                "at_s": round(time.monotonic() - self._started, 2),
                "first_s": self._first_s,
                "done": self.done,
                "driver_mib": resident_mib(),
                "store_mib": store_mib(),
                "cpu_s": self._cpu.total_s(),
            }
            with open(self._file, "a") as file:
                file.write(json.dumps(sample) + "\n")


def resident_mib() -> float:
    """Memory of this process that is its own: without what it shares with the object store."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return (int(fields["RssAnon"].split()[0]) + int(fields["RssFile"].split()[0])) / 1024


def store_mib() -> float:
    """In use in the object store of this node."""
    if not ray.is_initialized():
        return 0.0
    # Ray tells it nobody else without its dashboard.
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    return stats.object_store_bytes_used / 2**20


class CpuTime:
    """Processor time of the process `root` and all that ever was below it. Ray's workers come and go, and nobody waits
    for them, so that what each one had when it was last seen is kept."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[tuple[int, int], float] = {}  # (process, when it started) -> seconds

    def total_s(self) -> float:
        stats = dict(_stats())
        for process, fields in stats.items():
            if _is_below(process, self._root, stats):
                user, system = fields[11:13]
                self._seen[process, fields[19]] = (user + system) / TICKS
        return sum(self._seen.values())


def _stats() -> Iterator[tuple[int, list[int]]]:
    """Of each process the numbers of proc(5)'s stat from the third on; the state, which is a letter, as 0."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        yield int(name), [0, *map(int, fields[1:])]


def _is_below(process: int, root: int, stats: dict[int, list[int]]) -> bool:
    while process != root and process in stats:
        process = stats[process][1]
    return process == root
