"""Connecting to Ray, and what the cluster offers."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import ray


def connect() -> None:
    """Joins the cluster that `RAY_ADDRESS` (or `ray job submit`) names, or starts a local one; once a process.

    Workers' output stays in Ray's log files: progress reaches people through `stages.progress`, errors as exceptions.
    """
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(include_dashboard=False, **quiet)
    # Ray puts its own in place, which ends the process with code 1; with the job's, atexit still stops Ray.
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)


def gpus_each(requested: float | None) -> float:
    """GPUs for one actor or worker: what the user asked for, else one where the cluster has any."""
    if requested is not None:
        return requested
    return 1.0 if ray.cluster_resources().get("GPU", 0) > 0 else 0.0


def device_for(gpus: float) -> str:
    return "cuda" if gpus > 0 else "cpu"
