"""Ordered prefetch by threads: the decoders release the interpreter lock, and the order never depends on timing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

K = TypeVar("K")
T = TypeVar("T")


def prefetch(load: Callable[[K], T], batches: Iterable[Sequence[K]], threads: int, ahead: int = 2) -> Iterator[list[T]]:
    """Yields `[load(i) for i in batch]` for each batch, `ahead` batches loaded meanwhile.

    An exception of `load` is raised where its batch would have been yielded.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[list[Future[T]]] = deque()
        try:
            for batch in batches:
                waiting.append([pool.submit(load, index) for index in batch])
                if len(waiting) > ahead:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            for batch in waiting:
                for future in batch:
                    future.cancel()
