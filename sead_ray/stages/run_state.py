"""What a run is doing, read from its folder alone, by anybody: which stage of which round, how far, who holds it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow.parquet as pq

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.selection import NEEDS_LABELLED
from sead_ray.stages import layout
from sead_ray.stages.lease import Lease, machine_key, process_key, read_lease
from sead_ray.storage import Store

Status = Literal["done", "running", "stopped", "waiting for labels", "pending"]


@dataclass(frozen=True)
class StageState:
    """One stage of one round. `done` of `total` `unit`s; total None: how far it is, is not known."""

    round: int
    name: str
    status: Status
    done: int = 0
    total: int | None = None
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class RunState:
    """A run as it stands.

    Attributes:
        status: done: every round is evaluated; stopped: nobody works on it, and it is not done.
        holder: the driver that holds the folder, in words; empty where none does.
        stages: of all rounds, in the order of work; before them the preparation.
    """

    status: Status
    holder: str
    stages: tuple[StageState, ...]

    @property
    def current(self) -> StageState | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if stage.status != "done"), None)

    @property
    def n_done(self) -> int:
        return sum(stage.status == "done" for stage in self.stages)


def run_state(run: Store, config: RunConfig) -> RunState:
    """Reads manifests, ledgers and the driver's lease; changes nothing."""
    lease = read_lease(run)
    is_held = lease is not None and _may_live(lease)
    stages: list[StageState] = []
    for stage in _published(run, config):
        if stage.status == "done" or (stages and stages[-1].status != "done"):
            stages.append(stage)
        else:
            stages.append(_under_way(run, config, stage, is_held))
    open_ = next((stage for stage in stages if stage.status != "done"), None)
    return RunState(open_.status if open_ else "done", str(lease) if is_held else "", tuple(stages))


def _published(run: Store, config: RunConfig) -> Iterator[StageState]:
    """Every stage as done or pending; a round without scores has no such stage."""

    def state(number: int, name: str, folder: str) -> StageState:
        return StageState(number, name, "done" if run.is_published(folder) else "pending")

    yield state(-1, "prepare", layout.CLIPS)
    for number in range(len(config.select.rounds)):
        selected = state(number, "select", layout.selection(number))
        if number and (selected.status == "pending" or run.is_published(layout.scores(number))):
            yield state(number, "score", layout.scores(number))
        yield selected
        yield state(number, "train", layout.model(number))
        yield state(number, "evaluate", layout.evaluation(number))


def _under_way(run: Store, config: RunConfig, stage: StageState, is_held: bool) -> StageState:
    number, status = stage.round, "running" if is_held else "stopped"
    done, total, unit, note = 0, None, "", ""
    if stage.name == "score":
        done, total, unit = _scored(run, number), _to_score(run, config, number), "clips"
    elif stage.name == "train" and run.exists(layout.train_progress(number)):
        progress = run.read_json(layout.train_progress(number))
        done, total, unit = progress["step"], progress.get("steps"), "steps"
        note = f"loss {progress['loss']:.3f}"
    elif stage.name == "train" and not is_held and config.labels.mode == "wait":
        status, note = "waiting for labels", f"requested in {run.path(layout.label_request(number))}"
    return StageState(number, stage.name, status, done, total, unit, note)


def _scored(run: Store, number: int) -> int:
    """Rows of the ledger; a file that is merged away meanwhile counts as none."""
    folder, n_rows = layout.score_parts(number), 0
    fs, path = run.filesystem(folder)
    for name in run.list(folder, suffix=".parquet"):
        try:
            n_rows += pq.read_metadata(f"{path}/{name}", filesystem=fs).num_rows
        except (OSError, InputError):
            continue
    return n_rows


def _to_score(run: Store, config: RunConfig, number: int) -> int | None:
    if not run.is_published(layout.CLIPS):
        return None
    n_pool = run.manifest(layout.CLIPS).get("pool_clips")
    if n_pool is None or config.select.incremental in NEEDS_LABELLED:
        return n_pool
    bought = (run.manifest(layout.selection(before)).get("n_clips", 0) for before in range(number))
    return n_pool - sum(bought)


def _may_live(lease: Lease) -> bool:
    """Of another machine only its own heartbeat knows; there what is not given back counts as alive."""
    if lease.released:
        return False
    if lease.host == socket.gethostname() and lease.process.partition(":")[0] == machine_key():
        return process_key(lease.pid) == lease.process
    return True
