"""Selection: which clips and frames a round buys. Reads clips, scores and start features; cannot reach labels."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.schemas import FEATURE_SCHEMA, SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.selection import Budget, Pool, needs, strategy
from sead_ray.selection.budget import round_amounts, round_budget
from sead_ray.selection.explain import explain
from sead_ray.selection.no_frames import no_frames_reason
from sead_ray.stages import layout, metrics
from sead_ray.stages.pool_table import PoolTable, read_pool  # noqa: F401
from sead_ray.stages.quarantine import quarantined
from sead_ray.stages.score import iter_scores
from sead_ray.storage import Store


def read_selection(run: Store, number: int) -> list[Selection]:
    names = [name for name in SELECTION_SCHEMA.names if name != "schema_version"]
    return [Selection(**row) for row in run.iter_rows(layout.selection_file(number), SELECTION_SCHEMA, columns=names)]


def bought_before(run: Store, number: int) -> list[Selection]:
    """Selections of the rounds before `number`."""
    return [item for earlier in range(number) for item in read_selection(run, earlier)]


def strategy_name(config: RunConfig, number: int) -> str:
    """The strategy by which round `number` selects."""
    return config.select.incremental if number else config.select.initial


def needs_scores(config: RunConfig, number: int) -> bool:
    """Whether round `number` selects by the model of the round before."""
    return number > 0 and "scores" in needs(config.select.incremental) and not _by_front_images(config)


def needs_start_features(config: RunConfig, number: int) -> bool:
    """Whether round `number` selects by features of the starting backbone, or by small front images."""
    name = strategy_name(config, number)
    return "start_features" in needs(name) or (number > 0 and name == "vaal" and _by_front_images(config))


def scoring_scope(run: Store, config: RunConfig, number: int) -> dict[str, Any]:
    """Whom round `number` scores: clips to leave out, and labelled ones whose features the strategy needs."""
    taken = {item.clip_token for item in bought_before(run, number)}
    never = _excluded(run, config)
    if "labelled" in needs(strategy_name(config, number)):
        return {"exclude": set(never - taken), "labelled": taken}
    return {"exclude": taken | never, "labelled": set()}


def select_round(run: Store, config: RunConfig, number: int, pool: PoolTable) -> list[Selection]:
    """Computes and returns round `number`'s purchase; the caller publishes it.

    Raises:
        InputError: the budget exceeds the pool, or the round would buy no frame at all; says why.
    """
    budget = _budget(config, number, pool)
    rows = strategy(strategy_name(config, number))(
        round_pool(run, config, number, pool), budget, round_rng(config, number), config.select
    )
    if needs_scores(config, number) and not any(item.n_frames_bought for item in rows):
        raise InputError(no_frames_reason(iter_scores(run, number), config.score))
    return _with_facts(rows, pool)


def round_rng(config: RunConfig, number: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, number])  # a restart draws the same numbers


def round_pool(run: Store, config: RunConfig, number: int, pool: PoolTable) -> Pool:
    """What round `number`'s strategy sees."""
    unknown = set(config.select.exclude) - set(pool.lookup("clip_token", config.select.exclude))
    if unknown:
        raise InputError(f"select.exclude names clip {min(unknown)}, which the pool does not hold.")
    settings: dict[str, Any] = {
        "labelled": frozenset(item.clip_token for item in bought_before(run, number)),
        "excluded": _excluded(run, config),
        "round": number,
        "rank_by": config.score.rank_by,
    }
    if needs_scores(config, number):
        folder, schema = layout.scores(number), SCORE_SCHEMA
        _check_all_scored(run, number, pool, settings["labelled"] | settings["excluded"])
    elif needs_start_features(config, number):
        folder, schema = layout.FEATURES, FEATURE_SCHEMA
    else:
        return Pool.from_table(pool.table, **settings)
    files = [f"{folder}/{name}" for name in run.list(folder, suffix=".parquet")]
    return Pool.from_dataset(run.dataset(files, schema), **settings)


def publish_selection(run: Store, config: RunConfig, number: int, rows: list[Selection], started: float) -> None:
    """Writes and publishes a round's purchase. The label request lies in the same folder already."""
    run.write_table(layout.selection_file(number), (item.to_row() for item in rows), SELECTION_SCHEMA)
    run.publish(
        layout.selection(number),
        {
            "strategy": strategy_name(config, number),
            "n_clips": len(rows),
            "n_frames": sum(item.n_frames_bought for item in rows),
            "n_clips_without_key_frame": sum(item.n_frames_bought == 0 for item in rows),
            "seconds": round(time.monotonic() - started, 2),
        },
    )


def show_budget(run: Store, config: RunConfig, number: int, pool: PoolTable) -> None:
    """Shows as metrics what is bought up to round `number`, whose selection is published, and what may be."""
    bought = [*bought_before(run, number), *read_selection(run, number)]
    used = {"clips": len(bought), "frames": sum(item.n_frames_bought for item in bought)}
    for unit, amount in used.items():
        metrics.show("sead_budget_used", amount, run=run.root, unit=unit)
    total = sum(round_amounts(config.select, pool.n_clips, pool.n_frames))
    metrics.show("sead_budget_total", total, run=run.root, unit=config.select.budget_in)
    metrics.show("sead_clips_quarantined", len(quarantined(run)), run=run.root)


def explain_clip(run: Store, config: RunConfig, number: int, pool: PoolTable, token: str) -> str:
    """Why round `number`, whose selection is published, took the clip `token` or did not.

    Raises:
        InputError: the pool has no such clip.
    """
    clip = pool.clip(token)
    if clip is None:
        raise InputError(f"The pool holds no clip {token}.")
    for row in bought_before(run, number):
        if row.clip_token == token:
            return f"Clip {token} was bought in round {row.round} and never returns: {row.reason}"
    if token in config.select.exclude:
        return f"Clip {token} was not taken: select.exclude names it."
    if token in quarantined(run):
        reason = quarantined(run)[token] or "no reason is given"
        return f"Clip {token} was not taken: it is quarantined ({run.path(layout.QUARANTINE)}: {reason.rstrip('.')})."
    rows = read_selection(run, number)
    for row in rows:
        if row.clip_token == token:
            return f"Clip {token} was taken in round {number}, rank {row.rank} of {len(rows)}: {row.reason}"
    failure = _why_failed(run, config, number, token)
    if failure:
        return f"Clip {token} was not taken: it could not be scored. {failure}"
    name = strategy_name(config, number)
    why = explain(name, round_pool(run, config, number, pool), rows, clip, config.select)
    return f"Clip {token} was not taken in round {number} ({name}): {why}"


def _by_front_images(config: RunConfig) -> bool:
    return config.select.incremental == "vaal" and config.select.vaal_input == "front_image"


def _budget(config: RunConfig, number: int, pool: PoolTable) -> Budget:
    """The round's budget; for `random_frames` what the matched run really bought in the same round."""
    if strategy_name(config, number) != "random_frames":
        return round_budget(config.select, number, pool.n_clips, pool.n_frames)
    if config.select.match_run is None:
        raise InputError("The strategy random_frames needs select.match_run: the run folder whose frames it matches.")
    other = Store(config.select.match_run)
    if not other.is_published(layout.selection(number)):
        raise InputError(f"select.match_run: {other.path(layout.selection(number))} is not published yet.")
    return Budget(frames=sum(item.n_frames_bought for item in read_selection(other, number)))


def _excluded(run: Store, config: RunConfig) -> frozenset[str]:
    return frozenset(config.select.exclude) | frozenset(quarantined(run))


def _check_all_scored(run: Store, number: int, pool: PoolTable, without: frozenset[str]) -> None:
    """Every clip that may be bought must be scored: a clip that is missing would be passed over in silence."""
    scored: set[str] = set()
    expected = pool.n_clips - len(without & set(pool.lookup("clip_token", without)))
    facts = run.manifest(layout.scores(number))
    if facts.get("n_selectable", facts["n_clips"]) >= expected:
        return
    for name in run.list(layout.scores(number), suffix=".parquet"):
        rows = run.iter_rows(f"{layout.scores(number)}/{name}", SCORE_SCHEMA, columns=["clip_token"])
        scored.update(row["clip_token"] for row in rows)
    missing = sorted(set(pool.table.column("clip_token").to_pylist()) - without - scored)
    if missing:
        raise InputError(f"Clip {missing[0]} of the pool has no score in round {number}: score the pool again.")


def _with_facts(rows: list[Selection], pool: PoolTable) -> list[Selection]:
    """Rows with their stratum, checked against the clips they name."""
    tokens = [row.clip_token for row in rows]
    strata, lengths = pool.lookup("stratum", tokens), pool.lookup("n_frames", tokens)
    for row in rows:
        if row.frame_stop > int(lengths[row.clip_token]):
            raise InputError(
                f"Clip {row.clip_token} has {lengths[row.clip_token]} frames, but its score is of more: score it again."
            )
    return [replace(row, stratum=row.stratum or strata[row.clip_token]) for row in rows]


def _why_failed(run: Store, config: RunConfig, number: int, token: str) -> str:
    if not needs_scores(config, number):
        return ""
    rows = run.iter_rows(layout.scores_file(number), SCORE_SCHEMA, columns=["clip_token", "status", "reason"])
    return next((row["reason"] for row in rows if row["clip_token"] == token and row["status"] != "ok"), "")
