"""Work beside the thread that waits for it later."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Beside(Generic[T]):
    """`work`, begun at once in a daemon thread with the context of this one."""

    def __init__(self, work: Callable[[], T], name: str) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._run), name=name, daemon=True)
        self._thread.start()

    def result(self) -> T:
        """Waits for what `work` returns; raises what it raises."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def join(self, timeout_s: float | None = None) -> None:
        """Waits for the end, whatever it is, at most so long where that is given."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # told where the result is asked for
            self._error = error
