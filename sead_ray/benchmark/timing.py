"""Interleaved timing and peak memory, on a CPU or a GPU."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import nn


class Stopwatch:
    """Seconds by name. Waits for the device around every measurement.

    Attributes:
        seconds: name -> one entry for each measurement.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = {}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def measure(self, name: str) -> Generator[None, None, None]:
        start = self.now()
        yield
        self.seconds.setdefault(name, []).append(self.now() - start)

    @contextmanager
    def modules(self, named: dict[str, nn.Module]) -> Generator[None, None, None]:
        """Measures every call of the named modules inside."""
        starts: dict[str, float] = {}

        def before(name: str) -> Callable[..., None]:
            return lambda *_: starts.update({name: self.now()})

        def after(name: str) -> Callable[..., None]:
            return lambda *_: self.seconds.setdefault(name, []).append(self.now() - starts[name])

        handles = [module.register_forward_pre_hook(before(name)) for name, module in named.items()]
        handles += [module.register_forward_hook(after(name)) for name, module in named.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.seconds.items()}


class StageClock:
    """Seconds between marks, summed by the name of the later one; on a GPU measured there, and nothing waits for it."""

    def __init__(self, device: str) -> None:
        self._on_gpu = torch.device(device).type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self.mark("")

    def mark(self, name: str) -> None:
        if not self._on_gpu:
            self._marks.append((name, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append((name, event))

    def totals(self) -> dict[str, float]:
        """Waits for the last mark."""
        if self._on_gpu:
            self._marks[-1][1].synchronize()
        seconds: dict[str, float] = {}
        for (_, before), (name, after) in pairwise(self._marks):
            taken = before.elapsed_time(after) / 1000 if self._on_gpu else after - before
            seconds[name] = seconds.get(name, 0.0) + taken
        return seconds


def median_ratio(values: list[float], base: list[float]) -> float:
    """Median of the ratios of neighbours in time: what disturbs the machine for a while disturbs both alike."""
    return statistics.median(value / reference for value, reference in zip(values, base, strict=True))


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def reserved_gib(device: torch.device) -> float:
    """Most of the GPU that PyTorch held for itself, recordings of CUDA graphs included; on a CPU as
    `peak_memory_gib`."""
    return torch.cuda.max_memory_reserved(device) / 2**30 if device.type == "cuda" else peak_memory_gib(device)


def peak_memory_gib(device: torch.device) -> float:
    """Of the GPU since `reset_peak_memory`; on a CPU, resident memory of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30
