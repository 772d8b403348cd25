"""Progress of long stages: a bar in a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm


class Progress:
    """Counts `total` things of one stage. Use as a context manager.

    In a terminal one bar with rate and time left; elsewhere a line at the start, then at most one each `every_s`.
    """

    def __init__(self, stage: str, total: int, unit: str, done: int = 0, every_s: float = 15.0) -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self._every_s = every_s
        self._started = self._last = time.monotonic()
        self._first = done
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=stage, unit=unit, dynamic_ncols=True)
        elif total:
            say(f"{stage}: {done}/{total} {unit}s")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.close()
        elif self.done:
            seconds = time.monotonic() - self._started
            say(f"{self.stage}: {self.done}/{self.total} {self.unit}s in {seconds:.0f} s")

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; `note` is shown behind the numbers."""
        self.done += count
        if self._bar:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= self._every_s and self.done < self.total:
            self._last = time.monotonic()
            rate = (self.done - self._first) / max(self._last - self._started, 1e-9)
            left = (self.total - self.done) / rate if rate else float("inf")
            behind = f", {note}" if note else ""
            say(f"{self.stage}: {self.done}/{self.total} {self.unit}s, {rate:.1f}/s, {left:.0f} s left{behind}")


def say(line: str) -> None:
    """One plain line for people, on stderr, where it does not mix with a job's answer."""
    print(line, file=sys.stderr, flush=True)
