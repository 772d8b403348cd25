"""What the scoring service tells Prometheus through Ray: each node's metrics endpoint shows these under `ray_`.

Outside Ray nothing is recorded. The service's own labels are few and of a fixed set: no clip, no token, no client.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge, Histogram

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]
BATCHES = [1, 2, 4, 8, 16, 32]

# Name -> (kind, what it is, tags, boundaries of a histogram)
METRICS: dict[str, tuple[Any, str, tuple[str, ...], list[float] | None]] = {
    "sead_serve_requests_total": (Counter, "Requests answered", ("route", "status"), None),
    "sead_serve_request_seconds": (Histogram, "From the first byte of a request to its answer", ("route",), SECONDS),
    "sead_serve_part_seconds": (Histogram, "Parts of the time of a scored clip", ("part",), SECONDS),
    "sead_serve_at_work": (Gauge, "Requests that are decoded, wait for the model or are computed", (), None),
    "sead_serve_batch_clips": (Histogram, "Clips that went through the model together", (), BATCHES),
    "sead_serve_decisions_total": (Counter, "Clips by decision; none: without a calibration", ("decision",), None),
    "sead_serve_switches_total": (Counter, "Models switched to, and refused by their trial", ("outcome",), None),
    "sead_serve_intake_total": (Counter, "Clips taken into the pool, or known there", ("outcome",), None),
}


def count(name: str, **tags: Any) -> None:
    """One more of a counter of `METRICS`."""
    if ray.is_initialized():
        _metric(name).inc(1, _texts(tags))


def observe(name: str, value: float, **tags: Any) -> None:
    """A value of a histogram of `METRICS`."""
    if ray.is_initialized():
        _metric(name).observe(value, _texts(tags))


def show(name: str, value: float) -> None:
    """The value of a gauge of `METRICS` from now on."""
    if ray.is_initialized():
        _metric(name).set(value)


@cache
def _metric(name: str) -> Any:
    kind, description, tags, boundaries = METRICS[name]
    if boundaries is None:
        return kind(name, description, tags)
    return kind(name, description, boundaries, tags)


def _texts(tags: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in tags.items()}
