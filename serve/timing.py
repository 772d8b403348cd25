"""Where the time of a request goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sead_ray.wire import Seconds


class Split:
    """Seconds of each part of a request, added up."""

    def __init__(self) -> None:
        self._parts = dict.fromkeys(Seconds.model_fields, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        self._parts[name] += max(0.0, seconds)

    def seconds(self) -> Seconds:
        return Seconds(**{name: round(value, 5) for name, value in self._parts.items()})
