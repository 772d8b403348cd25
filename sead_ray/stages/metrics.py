"""What a run tells Prometheus through Ray: each node's metrics endpoint shows these under the prefix `ray_`.

Only the driver records, so that a clip whose task Ray repeats counts once. Without a Ray that this process has joined
nothing is recorded. Ray drops a gauge that was not set for some 20 s, so a thread sets all of them again while the
driver lives; values from before it joined Ray arrive that way, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from sead_ray.stages.progress import about

# Name -> (kind, what it is, tags beside `run`). cluster/grafana.json draws these, and no others.
METRICS: dict[str, tuple[type[Counter] | type[Gauge], str, tuple[str, ...]]] = {
    "sead_clips_scored_total": (Counter, "Clips scored", ("round",)),
    "sead_frames_scored_total": (Counter, "Frames of the clips scored", ("round",)),
    "sead_clips_failed_total": (Counter, "Clips that could not be scored; their reason is in the scores", ("round",)),
    "sead_clips_quarantined_total": (Counter, "Clips that were given up after `score.max_attempts`", ("round",)),
    "sead_clips_quarantined": (Gauge, "Clips that the run's quarantine.json leaves out", ()),
    "sead_round": (Gauge, "The round under way", ()),
    "sead_stage_seconds": (Gauge, "How long the stage took when it last ran", ("round", "stage")),
    "sead_budget_used": (Gauge, "Bought up to and with this round", ("unit",)),
    "sead_budget_total": (Gauge, "What the last round's budget comes to", ("unit",)),
    "sead_train_loss": (Gauge, "Last training loss", ("round",)),
    "sead_train_steps": (Gauge, "Optimiser steps done", ("round",)),
    "sead_l2_m": (Gauge, "Planning L2 over 1, 2, 3 s, in metres", ("round",)),
}

REPEAT_EVERY_S = 5.0  # Ray's processes report every 10 s

_gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}


def count(name: str, number: float, **tags: Any) -> None:
    """`number` more of a counter of `METRICS`; `tags`: run, and those of the counter."""
    if number and ray.is_initialized():
        _metric(name).inc(number, _texts(tags))


def show(name: str, value: float, **tags: Any) -> None:
    """The value of a gauge of `METRICS` from now on."""
    _gauges[name, tuple(sorted(_texts(tags).items()))] = value
    if ray.is_initialized():
        _metric(name).set(value, _texts(tags))
    _start_repeating()


def repeat() -> None:
    """Sets every gauge to its last value."""
    if ray.is_initialized():
        for (name, tags), value in list(_gauges.items()):
            _metric(name).set(value, dict(tags))


@contextmanager
def stage(run: str, name: str, round_number: int | None = None) -> Generator[None, None, None]:
    """One stage of the run folder `run`: names it in log lines, and shows its seconds where it ends well."""
    started = time.monotonic()
    fields = {} if round_number is None else {"round": round_number}
    with about(run=run, stage=name, **fields):
        yield
    number = "" if round_number is None else round_number
    show("sead_stage_seconds", time.monotonic() - started, run=run, stage=name, round=number)


@lru_cache(maxsize=1)
def _start_repeating() -> None:
    def repeat_for_good() -> None:
        while True:
            time.sleep(REPEAT_EVERY_S)
            repeat()

    threading.Thread(target=repeat_for_good, name="metrics", daemon=True).start()


@cache
def _metric(name: str) -> Any:
    kind, description, tags = METRICS[name]
    return kind(name, description, ("run", *tags))


def _texts(tags: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in tags.items()}
