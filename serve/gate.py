"""How many requests are at work: whoever is too many is told so at once, before a byte of the body is read.

Work that waits in a queue makes everybody's answer late and nobody's earlier: the queue is kept as long as what keeps
the model busy.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sead_ray.stages import serve_metrics
from sead_ray.tokens import Grant
from serve.auth import LOCAL_CALLER
from serve.errors import ApiError, busy


class Gate:
    """
    Args:
        most: requests that may be decoded, wait for the model or be computed at a time.
        most_uploads: bodies that may arrive at a time; a slow one keeps nobody else from the model. One token has three
            quarters of them at most, so that whoever sends slowly, or is broken into, leaves places for others.
        deadline_s: from the end of the upload to the answer.
    """

    def __init__(self, most: int, most_uploads: int, deadline_s: float) -> None:
        self._most, self._most_uploads, self._deadline_s = most, most_uploads, deadline_s
        self._most_of_one = max(1, most_uploads - most_uploads // 4)
        self.working = 0
        self._uploads: Counter[str] = Counter()  # by name of the token
        self._seconds = 1.0  # between two answers, smoothed

    @contextmanager
    def upload(self, caller: Grant) -> Iterator[None]:
        """Raises `ApiError` 429 where the model has enough to do, or too many bodies are on their way."""
        self._refuse_if_full()
        arriving, of_caller = self._uploads.total(), self._uploads[caller.name]
        if arriving >= self._most_uploads:
            raise busy(f"{arriving} requests are arriving; try again later.", self._retry_after_s())
        if of_caller >= self._most_of_one and caller != LOCAL_CALLER:
            raise busy(f"{of_caller} requests of this token are arriving; try again later.", self._retry_after_s())
        self._uploads[caller.name] += 1
        try:
            yield
        finally:
            self._uploads[caller.name] -= 1
            self._uploads += Counter()  # names whose bodies are all there go

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Raises `ApiError` 429 where the model has enough to do by now; 504 where the answer takes too long."""
        self._refuse_if_full()
        self.working += 1
        serve_metrics.show("sead_serve_at_work", self.working)
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError:
            raise ApiError(504, f"The answer took longer than {self._deadline_s:g} s; try again later.") from None
        finally:
            taken = (time.monotonic() - started) / max(1, self.working)
            self._seconds += 0.1 * (taken - self._seconds)
            self.working -= 1
            serve_metrics.show("sead_serve_at_work", self.working)

    def _refuse_if_full(self) -> None:
        if self.working >= self._most:
            raise busy(f"{self.working} requests are at work; try again later.", self._retry_after_s())

    def _retry_after_s(self) -> int:
        """When those at work may be done."""
        return min(60, max(1, math.ceil(self._seconds * self.working)))
