"""Training batches on their way to the device: pinned, copied and, where they are files, decoded, ahead of their turn
and by a thread with a stream of its own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch

from sead_ray.training.batch import TrainingBatch

AHEAD = 2  # batches on the device that wait for their turn


class DeviceFeed:
    """Iterates over `batches` on `device`, in their order; use as a context manager.

    What the source raises is raised where its batch would have come. On a CPU batches are passed on as they are.

    Attributes:
        waited_s: seconds for which a batch was asked for and not there yet, in all.
    """

    def __init__(self, batches: Iterator[TrainingBatch], device: torch.device) -> None:
        self._source, self._device = batches, device
        self._ready: queue.Queue[Any] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self.waited_s = 0.0

    def __enter__(self) -> DeviceFeed:
        self._thread = threading.Thread(target=self._run, daemon=True, name="device-feed")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # it may be waiting for a place
            self._drop_one()
            self._thread.join(0.05)

    def _drop_one(self) -> None:
        try:
            self._ready.get_nowait()
        except queue.Empty:
            return

    def __iter__(self) -> Iterator[TrainingBatch]:
        while True:
            started = time.perf_counter()
            batch, arrived, error = self._ready.get()
            self.waited_s += time.perf_counter() - started
            if error is not None:
                raise error
            if batch is None:
                return
            if arrived is not None:
                stream = torch.cuda.current_stream(self._device)
                stream.wait_event(arrived)
                for part in batch.tensors():  # made on another stream: its memory may not go before this one is done
                    part.record_stream(stream)
            yield batch

    def _run(self) -> None:
        end: Any = (None, None, None)
        try:
            copies = None
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)  # a thread's own setting
                copies = torch.cuda.Stream(self._device)
            for batch in self._source:
                self._put(self._moved(batch, copies))
                if self._stopped.is_set():
                    break
        except BaseException as error:
            end = (None, None, error)
        finally:
            close = getattr(self._source, "close", None)  # of a generator: ends its threads
            if close is not None:
                close()
        self._put(end)

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def _moved(self, batch: TrainingBatch, copies: torch.cuda.Stream | None) -> tuple[TrainingBatch, Any, None]:
        if copies is None:
            return batch.to(self._device).with_pixels(), None, None
        pinned = batch.pin_memory()
        with torch.cuda.stream(copies):
            moved = pinned.to(self._device).with_pixels()
            arrived = torch.cuda.Event()
            arrived.record(copies)
        return moved, arrived, None


class OnItsWay:
    """A small tensor on its way to the host: `get` waits for what was computed before, not for what came after it."""

    def __init__(self, value: torch.Tensor) -> None:
        self._value, self._arrived = value, None
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def get(self) -> torch.Tensor:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value
