"""Clips of several requests through the model together. No Serve in here, and no torch.

While the model is busy clips gather by themselves; whoever waits goes with the next call, up to a limit. A request that
was cancelled meanwhile is left out, and a call whose requests were all cancelled ends after its frame.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sead_ray.stages.clip_runner import LoadedClip


class Abandoned(Exception):
    """Nobody waits for this call any more."""


# Computes one result a clip, in a thread; asks its second argument now and then whether anybody still waits.
Compute = Callable[[Sequence[LoadedClip], Callable[[], bool]], Sequence[Any]]


@dataclass(frozen=True)
class Computed:
    """A clip's result, the seconds of the call that made it, and how many clips it was made for."""

    result: Any
    seconds: float
    n_clips: int


@dataclass(eq=False)
class _Waiting:
    loaded: LoadedClip
    answer: asyncio.Future[Computed] = field(repr=False)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Clips of other image sizes cannot share a batch."""
        return (self.loaded.geometry.padded_height, self.loaded.geometry.width, self.loaded.geometry.height)


class Batcher:
    """
    Args:
        turn: held while the model computes; shared by all who use its device.
        wait_s: how long a clip that finds the model idle waits for others.
    """

    def __init__(self, compute: Compute, max_clips: int, turn: asyncio.Lock, wait_s: float = 0.0) -> None:
        self._compute, self._max_clips, self._turn, self._wait_s = compute, max_clips, turn, wait_s
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, loaded: LoadedClip) -> Computed:
        """The clip's result. Cancelling the caller takes it out of the queue."""
        item = _Waiting(loaded, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await item.answer

    async def _work(self) -> None:
        """Until nobody waits."""
        while self._waiting:
            if self._wait_s and len(self._waiting) < self._max_clips and not self._turn.locked():
                await asyncio.sleep(self._wait_s)
            async with self._turn:
                await self._run(self._next())

    def _next(self) -> list[_Waiting]:
        """The longest waiting clip, and those behind it that fit to it."""
        self._waiting = [item for item in self._waiting if not item.answer.done()]
        if not self._waiting:
            return []
        fitting = [item for item in self._waiting if item.shape == self._waiting[0].shape][: self._max_clips]
        self._waiting = [item for item in self._waiting if item not in fitting]
        return fitting

    async def _run(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        started = time.perf_counter()
        try:
            results = await asyncio.to_thread(
                self._compute, [item.loaded for item in batch], lambda: all(item.answer.done() for item in batch)
            )
        except Abandoned:
            return
        except Exception as error:
            if len(batch) > 1:  # one of them may be at fault: the others shall not pay for it
                for item in batch:
                    await self._run([item])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        seconds = time.perf_counter() - started
        for item, result in zip(batch, results, strict=True):
            if not item.answer.done():
                item.answer.set_result(Computed(result, seconds, len(batch)))
