"""Where the time before a training's first step goes."""

from __future__ import annotations

import time


class StartUp:
    """Seconds of each part, one after the other, from the worker's entry on.

    Attributes:
        seconds: by part: model, data, recording, first batch; where the workers got ready ahead, preparation and
            selection are what they waited for.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._before = time.monotonic()

    def mark(self, part: str) -> None:
        """Everything since the mark before was `part`; a second mark of the same part counts for nothing."""
        now = time.monotonic()
        self.seconds.setdefault(part, round(now - self._before, 3))
        self._before = now
