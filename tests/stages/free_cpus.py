"""CPUs of the session's Ray that nobody holds, for tests that need them or look for what a stage left behind."""

from __future__ import annotations

import gc
import time

import psutil
import ray
from ray._private.state import actors

CPUS = 2  # of the session's Ray
PATIENCE_S = 60.0


def wait_until_free() -> None:
    """Stages before have given back their CPUs; a pipeline that a test interrupted does once its frames are gone."""
    deadline = time.monotonic() + PATIENCE_S
    while ray.available_resources().get("CPU", 0) < CPUS:
        assert time.monotonic() < deadline, who_holds()
        gc.collect()
        time.sleep(0.2)


def who_holds() -> str:
    """Living actors, and what Ray's processes say that they are at; Ray's own listing needs its dashboard."""
    alive = [
        f"{actor['ActorClassName']} {actor['Name']} ({actor['Pid']})"
        for actor in actors().values()
        if actor["State"] != "DEAD"
    ]
    lines = [process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])]
    titles = sorted(line[0] for line in lines if line[0].startswith("ray::"))
    return f"{ray.available_resources()}; actors: {sorted(alive)}; processes: {titles}"
