"""Tells the trackers of a run what its folder holds: settings, and each round once it is published."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.report.rounds import RoundRow, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.progress import say
from sead_ray.storage import Store
from sead_ray.tracking import Checkpoint, RoundRecord, Tracker, open_trackers

_TOLD = "tracking/told.json"  # by tracker: rounds that it knows


class Tracking:
    """The trackers of one driver. One that fails costs a warning, never the run; it is told again after a restart."""

    def __init__(self, run: Store, config: RunConfig) -> None:
        """Raises `InputError` where a tracker is not installed or has no place."""
        self._run, self._config = run, config
        self._trackers = open_trackers(run, config.track)
        self._told: dict[str, list[int]] = run.read_json(_TOLD) if run.exists(_TOLD) else {}
        self._knows_params: set[str] = set()

    def tell(self) -> None:
        """Everything published that a tracker does not know yet."""
        for tracker in self._trackers:
            try:
                self._tell(tracker)
            except InputError:
                raise
            except Exception as error:  # a server that is gone raises whatever its client likes
                reason = " ".join(str(error).split())[:300]
                say(f"tracking: {tracker.name} could not be told ({reason}); the run goes on", "warning")

    def close(self) -> None:
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                say(f"tracking: {tracker.name} could not be closed ({' '.join(str(error).split())[:300]})", "warning")

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
