"""Progress of long stages: a bar in a terminal, plain lines in a log, or a JSON object a line for log collectors.

Everything that the commands say to people on stderr goes through `say`. `SEAD_RAY_LOG=json` turns each line into
`{"time", "level", "message", ...}` with the run, round and clip that it is about, and the counts behind progress.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from tqdm import tqdm

FORMAT_VARIABLE = "SEAD_RAY_LOG"
CALM_S = 0.5  # between two drawings of a bar

_about: ContextVar[dict[str, Any]] = ContextVar("about")


@contextmanager
def about(**fields: Any) -> Generator[None, None, None]:
    """Adds `fields` (run, round, stage, clip) to every JSON line said within the block, by this thread."""
    token = _about.set({**_about.get({}), **fields})
    try:
        yield
    finally:
        _about.reset(token)


class Progress:
    """Counts `total` things of one stage. Use as a context manager.

    In a terminal one bar with rate and time left; elsewhere a line at the start, then at most one each `every_s`. Their
    rate counts from the first thing that was done: before it come processes that start, models that load.
    """

    def __init__(self, stage: str, total: int, unit: str, done: int = 0, every_s: float = 15.0) -> None:
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self._every_s = every_s
        self._started = self._last = time.monotonic()
        self._first: tuple[float, int] | None = None  # when it was done, and how many were then
        self._bar = None
        if sys.stderr.isatty() and not _in_json():
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=stage,
                unit=unit,
                dynamic_ncols=True,
                mininterval=CALM_S,
                maxinterval=2 * CALM_S,
            )
        elif total:
            self._say(f"{done}/{total} {unit}s")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.close()
        elif self.done:
            seconds = time.monotonic() - self._started
            self._say(f"{self.done}/{self.total} {self.unit}s in {seconds:.0f} s", seconds=round(seconds, 2))

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done; fewer than none where work was lost. `note` is shown behind the numbers."""
        self.done += count
        if count < 0:
            self._first = None  # the rate counts anew
        before = self._first
        if count > 0 and not before:
            self._first = time.monotonic(), self.done
        if self._bar:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= self._every_s and self.done < self.total:
            self._last = time.monotonic()
            pace = self._pace(*before) if before else ""
            self._say(f"{self.done}/{self.total} {self.unit}s{pace}{note and ', '}{note}")

    def _pace(self, since: float, n_before: int) -> str:
        rate = (self.done - n_before) / max(self._last - since, 1e-9)
        if not rate:
            return ""
        pace = f"{rate:.1f}/s" if rate >= 0.1 else f"{_span(1 / rate)} a {self.unit}"
        return f", {pace}, {_span((self.total - self.done) / rate)} left"

    def _say(self, text: str, **fields: Any) -> None:
        say(f"{self.stage}: {text}", done=self.done, total=self.total, unit=self.unit, **fields)


def say(line: str, level: str = "info", **fields: Any) -> None:
    """One line for people, on stderr, where it does not mix with a job's answer.

    Args:
        level: info, warning or error; only JSON lines show it, and `fields` with those of `about`.
    """
    if _in_json():
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "level": level, "message": line, **_about.get({}), **fields}
        line = json.dumps(entry, ensure_ascii=False, default=str)
    tqdm.write(line, file=sys.stderr)  # above a bar, where one is shown
    sys.stderr.flush()


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _in_json() -> bool:
    return os.environ.get(FORMAT_VARIABLE, "").lower() == "json"
