"""Tells the trackers of a run what its folder holds: settings, and each round once it is published; and how a training
goes while it does, from a thread of its own, so that nothing waits for a server."""

from __future__ import annotations

import contextlib
import json
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from typing import Any, Self

from sead_ray.config import RunConfig
from sead_ray.errors import FencedError
from sead_ray.report.rounds import RoundRow, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.progress import say
from sead_ray.storage import Store
from sead_ray.tracking import Checkpoint, RoundRecord, Tracker, open_trackers

_TOLD = "tracking/told.json"  # by tracker: rounds that it knows
_MOST_WAITING = 16  # steps


_current: ContextVar[Tracking | None] = ContextVar("tracking", default=None)


def tell_live(number: int, step: int, values: Mapping[str, float]) -> None:
    """A step of the training of round `number`, for the trackers of this driver, if it has any."""
    tracking = _current.get()
    if tracking is not None:
        tracking.tell_live(number, step, values)


class Tracking:
    """The trackers of one driver. Use as a context manager.

    One that fails costs a warning, never the run; it is told again after a restart.
    """

    def __init__(self, run: Store, config: RunConfig) -> None:
        """Raises `InputError` where a tracker is not installed or has no place."""
        self._run, self._config = run, config
        self._trackers = open_trackers(run, config.track)
        self._told: dict[str, list[int]] = run.read_json(_TOLD) if run.exists(_TOLD) else {}
        self._knows_params: set[str] = set()
        self._steps: queue.Queue[tuple[int, int, Mapping[str, float]] | None] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._complaints: dict[str, str] = {}
        self._token: Token[Tracking | None] | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        threading.Thread(target=self._follow, name="tracking", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)
        with contextlib.suppress(queue.Empty):
            while True:
                self._steps.get_nowait()
        self._steps.put(None)  # ends the thread
        if kind is None:
            for tracker in self._trackers:
                self._guarded(tracker, tracker.close)

    def tell(self) -> None:
        """Everything published that a tracker does not know yet."""
        with self._lock:
            for tracker in self._trackers:
                self._guarded(tracker, self._tell, tracker)

    def tell_live(self, number: int, step: int, values: Mapping[str, float]) -> None:
        """Returns at once; where trackers are slow, steps are left out."""
        with contextlib.suppress(queue.Full):
            self._steps.put_nowait((number, step, values))

    def _follow(self) -> None:
        while (told := self._steps.get()) is not None:
            number, step, values = told
            with self._lock:
                for tracker in self._trackers:
                    if number not in self._told.get(tracker.name, []):
                        self._guarded(tracker, tracker.live, number, step, values)

    def _guarded(self, tracker: Tracker, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except FencedError:
            raise
        except Exception as error:  # a server that is gone raises whatever its client likes
            reason = " ".join(str(error).split())[:300]
            if reason != self._complaints.get(tracker.name):
                say(f"tracking: {tracker.name} could not be told ({reason}); the run goes on", "warning")
            self._complaints[tracker.name] = reason

    def _tell(self, tracker: Tracker) -> None:
        known = self._told.get(tracker.name, [])
        new = [number for number in _published(self._run) if number not in known]
        if not new:
            return
        if tracker.name not in self._knows_params:
            tracker.params(flat(self._config.model_dump(mode="json")))
            self._knows_params.add(tracker.name)
        for number in new:
            tracker.round(round_record(self._run, number))
            known = [*known, number]
            self._told = {**self._told, tracker.name: known}
            self._run.write_json(_TOLD, self._told)


def round_record(run: Store, number: int) -> RoundRecord:
    """What is told of a round whose model and evaluation are published."""
    facts = run.manifest(layout.model(number))
    checkpoint = Checkpoint(run.path(layout.model(number)), facts["model_version"], facts["files"])
    lines = run.read_bytes(f"{layout.model(number)}/metrics.jsonl").decode().splitlines()
    steps = [_step(json.loads(line)) for line in lines if line.strip()]
    (row,) = [row for row in rounds_table(run) if row.round == number]
    return RoundRecord(number, checkpoint, steps, dict(_finite(_metrics(run, row))))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key; lists and empty dictionaries as JSON."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = json.dumps(value) if isinstance(value, (list, dict)) else value
    return found


def _published(run: Store) -> Iterator[int]:
    number = 0
    while run.is_published(layout.evaluation(number)):
        yield number
        number += 1


def _step(row: dict[str, Any]) -> tuple[int, dict[str, float]]:
    values = {"train/loss": row["loss"], "train/lr": row["lr"]}
    values.update((f"train/{name}", value) for name, value in row.get("losses", {}).items())
    return row["step"], dict(_finite(values.items()))


def _metrics(run: Store, row: RoundRow) -> Iterator[tuple[str, Any]]:
    yield "bought/clips", row.n_clips
    yield "bought/frames", row.n_frames
    yield "bought/frames_share", row.frames_share
    yield "gain", row.gain
    for horizon, value in row.l2_m.items():
        yield f"eval/l2_m_{horizon}", value
    for horizon, value in row.collision_percent.items():
        yield f"eval/collision_percent_{horizon}", value
    evaluation = run.read_json(f"{layout.evaluation(row.round)}/evaluation.json")
    detection = evaluation.get("detection", {}).get("nuscenes", {})
    yield "eval/mAP", detection.get("mAP")
    yield "eval/NDS", detection.get("NDS")
    yield "eval/map_mAP", evaluation.get("map", {}).get("mAP")
    for stage, seconds in row.seconds.items():
        yield f"seconds/{stage}", seconds


def _finite(items: Any) -> Iterator[tuple[str, float]]:
    """Numbers only: what was not measured is not told."""
    for name, value in items:
        if isinstance(value, (int, float)) and math.isfinite(value):
            yield name, float(value)
