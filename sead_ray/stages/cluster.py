"""Connecting to Ray, and what the cluster offers."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import ray
import ray.util
import torch

from sead_ray.errors import InputError

# Ray ends workers that are idle for a second where no CPU is free. With fractional CPUs none ever is, and on a small
# machine a third of the time went to starting workers anew, each with seconds of imports (docs/clusters.md).
KEEP_IDLE_WORKERS = ("RAY_idle_worker_killing_time_threshold_ms", "600000")


def connect() -> None:
    """Joins the cluster that `RAY_ADDRESS` (or `ray job submit`) names, or starts a local one; once a process.

    Workers' output stays in Ray's log files: progress reaches people through `stages.progress`, errors as exceptions.
    """
    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of tasks that fail beside the one that is told of
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
    else:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        os.environ.setdefault(*KEEP_IDLE_WORKERS)
        with _without(b"Set ray log level from environment variable"):
            ray.init(include_dashboard=False, **quiet)
    # Ray puts its own in place, which ends the process with code 1; with the job's, atexit still stops Ray.
    if callable(on_sigterm) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)


@contextmanager
def _without(greeting: bytes) -> Generator[None, None, None]:
    """Leaves out the lines that say so of what Ray's C++ writes to stderr within the block, past Python."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            for line in said:
                if greeting not in line:
                    os.write(2, line)


def gpus_each(requested: float | None) -> float:
    """GPUs for one actor or worker: what the user asked for, else one where the cluster has any."""
    if requested is not None:
        return requested
    return 1.0 if ray.cluster_resources().get("GPU", 0) > 0 else 0.0


def device_for(gpus: float) -> str:
    return "cuda" if gpus > 0 else "cpu"


def device_here(gpus: float) -> str:
    """Where this process computes, which Ray gave so many GPUs. Without a real one behind them (a cluster may call
    anything a GPU) it is the CPU.

    Raises:
        InputError: the node has an NVIDIA GPU that torch cannot use; on the CPU a stage would take a hundred times as
            long, unnoticed.
    """
    if gpus <= 0:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if os.path.exists("/dev/nvidiactl"):
        raise InputError(
            f"Node {ray.util.get_node_ip_address()} has an NVIDIA GPU that torch {torch.__version__} cannot use: is "
            "this torch built for CUDA, and its driver new enough?"
        )
    return "cpu"


@contextmanager
def starting(device: torch.device | str) -> Generator[None]:
    """A thread starts the GPU (its context, cuBLAS, cuDNN) while the block imports and builds what will use it."""
    thread = threading.Thread(target=_start, args=(torch.device(device),), name="start-device", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _start(device: torch.device) -> None:
    if device.type != "cuda":
        return
    with suppress(RuntimeError), torch.no_grad():  # what fails here fails again where it is told of
        pixels, weights = (torch.zeros(8, 8, 8, 8, dtype=torch.bfloat16, device=device) for _ in range(2))
        torch.nn.functional.conv2d(pixels, weights)
        torch.matmul(pixels, weights)
        torch.cuda.synchronize(device)


def switch_threads_often() -> None:
    """For a process that feeds a device: its thread gives up Python's lock with every call into torch, and by default
    waits up to 5 ms each time to get it back while another thread loads data."""
    sys.setswitchinterval(1e-4)


def on_nodes(labels: Mapping[str, str], resources: Mapping[str, float]) -> dict[str, Any]:
    """Ray's options for tasks and actors that run only on nodes with these labels and custom resources."""
    options: dict[str, Any] = {"label_selector": dict(labels)} if labels else {}
    return {**options, "resources": dict(resources)} if resources else options
