"""Selection: which clips and frames a round buys. Reads clips and scores; cannot reach labels."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.schemas import CLIP_SCHEMA, SELECTION_SCHEMA
from sead_ray.selection import STRATEGIES
from sead_ray.selection.budget import round_sizes
from sead_ray.selection.no_frames import no_frames_reason
from sead_ray.selection.pool import PoolClip
from sead_ray.selection.strata import with_strata
from sead_ray.stages import layout
from sead_ray.stages.score import read_scores
from sead_ray.storage import Store


@dataclass(frozen=True)
class PoolTable:
    """The pool as selection sees it, and each clip's frame tokens in order (for the label request)."""

    clips: list[PoolClip]
    frame_tokens: dict[str, list[str]]


def read_pool(run: Store, config: RunConfig) -> PoolTable:
    """All clips of the pool, bought or not, with their strata (Eq. 1 ranks over the whole pool)."""
    clips: list[PoolClip] = []
    frame_tokens: dict[str, list[str]] = {}
    for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA):
        if row["split"] != "pool":
            continue
        tokens = [frame["token"] for frame in row["frames"]]
        frame_tokens[row["clip_token"]] = tokens
        facts = {name: row[name] for name in PoolClip.__dataclass_fields__ if name in row}
        clips.append(PoolClip(n_frames=len(tokens), **facts))
    return PoolTable(with_strata(clips, config.select.valuable_ratio), frame_tokens)


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
    return number > 0 and config.select.incremental != "random"


def select_round(run: Store, config: RunConfig, number: int, pool: PoolTable) -> list[Selection]:
    """Computes and returns round `number`'s purchase; the caller publishes it.

    Raises:
        InputError: the budget exceeds the pool, or the round would buy no frame at all; says why.
    """
    n_clips = round_sizes(len(pool.clips), config.select.rounds)[number]
    taken = {item.clip_token for item in bought_before(run, number)}
    rest = [clip for clip in pool.clips if clip.clip_token not in taken]
    scores = read_scores(run, number) if needs_scores(config, number) else None
    rng = np.random.default_rng([config.seed, number])  # a restart draws the same numbers
    rows = STRATEGIES[strategy_name(config, number)](
        rest, scores, n_clips, rng, config=config.select, round=number, rank_by=config.score.rank_by
    )
    if scores is not None and not any(item.n_frames_bought for item in rows):
        raise InputError(no_frames_reason(scores, config.score))
    return rows


def publish_selection(run: Store, config: RunConfig, number: int, rows: list[Selection], started: float) -> None:
    """Writes and publishes a round's purchase. The label request lies in the same folder already."""
    run.write_table(layout.selection_file(number), [item.to_row() for item in rows], SELECTION_SCHEMA)
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
