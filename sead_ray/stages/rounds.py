"""Algorithm 1, round after round, to the budget. A stage whose output is published is skipped on a restart."""

from __future__ import annotations

import os
import time
from typing import Any

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.report.page import write_report
from sead_ray.stages import layout, metrics
from sead_ray.stages.evaluate import evaluate_model
from sead_ray.stages.features import extract_start_features
from sead_ray.stages.label_store import requested_frames, require_delivery, write_request
from sead_ray.stages.lock import driver_lock
from sead_ray.stages.overlap import Overlap, shared_out
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.progress import about, say
from sead_ray.stages.score import score_pool
from sead_ray.stages.select import (
    PoolTable,
    bought_before,
    needs_scores,
    needs_start_features,
    publish_selection,
    read_pool,
    read_selection,
    scoring_scope,
    select_round,
    show_budget,
)
from sead_ray.stages.standby import Standby
from sead_ray.stages.take_up import take_up
from sead_ray.stages.track import Tracking
from sead_ray.stages.train import train_model
from sead_ray.storage import Store

# Settings that say where and with what a run is computed, not what comes out of it: they may change on a restart.
_FREE_KEYS = {
    "run_dir": None,
    "data": {"root"},
    "notice": None,
    "prepare": None,
    "labels": {"delivery", "context_frames"},
    "select": {"exclude", "match_run"},
    "train": {
        "num_workers",
        "resize_every_s",
        "labels",
        "resources",
        "gpus_per_worker",
        "cpus_per_worker",
        "loader_workers",
        "loader_threads",
        "cache_gib",
        "checkpoint_epochs",
        "checkpoint_steps",
        "max_failures",
        "max_preemptions",
        "no_progress_timeout_s",
    },
    "score": {
        "clips_per_batch",
        "min_actors",
        "max_actors",
        "gpus_per_actor",
        "cpus_per_actor",
        "cpus_per_decoder",
        "max_decoders",
        "actor_labels",
        "actor_resources",
        "decoder_labels",
        "decoder_resources",
        "max_attempts",
        "no_progress_timeout_s",
    },
    "evaluate": None,
    "track": None,
    "overlap": None,
}


def run_rounds(config: RunConfig) -> Store:
    """Runs all rounds of `select.rounds`; returns the run folder.

    Raises:
        InputError: bad data or settings. RunBusyError: another driver. LabelsPending: `labels.mode: wait`.
    """
    config = located(config)
    run = Store(config.run_dir)
    with driver_lock(run), about(run=run.root):
        claim_config(run, config)
        with Tracking(run, config) as tracking:
            _run_rounds(run, config, tracking)
    return run


def _run_rounds(run: Store, config: RunConfig, tracking: Tracking) -> None:
    config = shared_out(config)
    with Overlap(run, config) as overlap:
        overlap.get_ready(0)
        ensure_world(config)
        prepare(run, config)
        pool = read_pool(run, config)
        for number in range(len(config.select.rounds)):
            with about(round=number):
                # A round that began to score ahead keeps the pool with which it did.
                if overlap.scores(number) is None and take_up(run, number):
                    pool = read_pool(run, config)
                run_round(run, config, number, pool, overlap)
            tracking.tell()
            write_report(run, config.data.root, config)


def run_round(run: Store, config: RunConfig, number: int, pool: PoolTable, overlap: Overlap) -> None:
    """score → select → (labels) → train → evaluate."""
    metrics.show("sead_round", number, run=run.root)
    share = config.select.rounds[number]
    unit = {"share": f"{share:.0%} of the", "percent": f"{share:g} % of the", "count": f"{share:g}"}
    say(f"round {number}: up to {unit[config.select.amounts]} {config.select.budget_in}; {pool.n_clips} clips in all")
    if not run.is_published(layout.selection(number)):
        if needs_scores(config, number):
            scope = scoring_scope(run, config, number)
            score_pool(run, config, number, layout.model(number - 1), ahead=overlap.scores(number), **scope)
        if needs_start_features(config, number):
            extract_start_features(run, config)
    buy(run, config, number, pool)
    with overlap.evaluating(number - 1), overlap.looking_ahead(number):
        train_round(run, config, number, overlap.standby(number))
    overlap.get_ready(number + 1)
    if not overlap.evaluates_later(number):
        evaluate_model(run, config, number, ahead=overlap.judged(number))


def buy(run: Store, config: RunConfig, number: int, pool: PoolTable) -> None:
    """Selects, writes the label request, publishes both; nothing where they are published."""
    if not run.is_published(layout.selection(number)):
        with metrics.stage(run.root, "select", number):
            _buy(run, config, number, pool)
    show_budget(run, config, number, pool)


def _buy(run: Store, config: RunConfig, number: int, pool: PoolTable) -> None:
    started = time.monotonic()
    rows = select_round(run, config, number, pool)
    tokens = pool.frame_tokens_of([row.clip_token for row in rows])
    write_request(run, config, number, requested_frames(rows, tokens))
    publish_selection(run, config, number, rows, started)


def train_round(run: Store, config: RunConfig, number: int, standby: Standby | None = None) -> None:
    """Trains on everything bought up to this round, once its labels are there.

    Args:
        standby: workers that got ready for it.
    """
    require_delivery(run, config, number)
    selections = [*bought_before(run, number), *read_selection(run, number)]
    train_model(run, config, number, bought_frames(selections), standby)


def bought_frames(selections: list[Selection]) -> dict[str, list[int]]:
    """Frame indices by clip token; clips without a bought frame are left out."""
    return {
        item.clip_token: list(range(item.frame_start, item.frame_stop)) for item in selections if item.n_frames_bought
    }


def located(config: RunConfig) -> RunConfig:
    """The configuration with absolute local paths: Ray's workers have another working directory."""
    changes: dict[str, Any] = {"run_dir": Store(config.run_dir).root}
    changes["data"] = config.data.model_copy(update={"root": Store(config.data.root).root})
    if config.model.backbone_weights:
        weights = os.path.abspath(config.model.backbone_weights)
        changes["model"] = config.model.model_copy(update={"backbone_weights": weights})
    if config.labels.delivery:
        delivery = Store(config.labels.delivery).root
        changes["labels"] = config.labels.model_copy(update={"delivery": delivery})
    return config.model_copy(update=changes)


def claim_config(run: Store, config: RunConfig) -> None:
    """Writes the run's configuration, or refuses one that would mix with what the folder holds already.

    Raises:
        InputError: the folder was begun with another value of a setting that changes results; names the key.
    """
    mine = config.model_dump(mode="json")
    if run.exists(layout.CONFIG):
        theirs = run.read_json(layout.CONFIG)
        theirs.get("train", {}).setdefault("deterministic", False)  # as runs were before there was a choice
        key = _first_difference(_fixed(theirs), _fixed(mine))
        if key == "select.rounds":
            raise InputError(
                f"The run folder {run.root} was begun with select.rounds {theirs['select']['rounds']}: "
                "begin with the same shares (more may follow), or use another run_dir."
            )
        if key:
            raise InputError(
                f"The run folder {run.root} was begun with another {key}: use that value again, or another run_dir."
            )
    run.write_json(layout.CONFIG, mine)


def _fixed(config: dict[str, Any]) -> dict[str, Any]:
    fixed = {key: value for key, value in config.items() if _FREE_KEYS.get(key, ()) is not None}
    for key, free in _FREE_KEYS.items():
        if free and isinstance(fixed.get(key), dict):
            fixed[key] = {name: value for name, value in fixed[key].items() if name not in free}
    return fixed


def _first_difference(theirs: Any, mine: Any, path: str = "") -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted({*theirs, *mine}):
            found = _first_difference(theirs.get(key), mine.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    if path == "select.rounds" and isinstance(theirs, list):  # a run may be given a larger budget later
        mine = mine[: len(theirs)]
    if path == "train.precision" and "auto" in (theirs, mine):  # whatever suits the machine
        return ""
    return "" if theirs == mine else path
