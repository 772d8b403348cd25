"""From a ranking of scored clips to what is bought of each: its key frames, the whole clip, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.selection.pool import Pool
from sead_ray.selection.ranking import Filter, Ranker, Ranking, top_n

# What a purchase reads of a scored clip.
COLUMNS = ("status", "n_frames", "key_start", "key_length")


def key_frame_filter(config: SelectConfig) -> Filter | None:
    """With `next_ranked` a clip without a key frame gives its place away before anything is ranked."""
    if not (config.key_frames and config.without_key_frame == "next_ranked"):
        return None
    return lambda batch: pc.greater(batch.column("key_length"), 0)


def columns_of(pool: Pool, *names: str) -> list[str]:
    """`COLUMNS` and `names`, and the stratum where the pool knows it."""
    return list(dict.fromkeys([*COLUMNS, *names, *(["stratum"] if "stratum" in pool.columns else [])]))


def check_enough(n_clips: int, ranking: Ranking, config: SelectConfig) -> None:
    """Raises `InputError` where fewer clips than asked for can be ranked, and says what became of the others."""
    if n_clips < 1:
        raise InputError(f"A round must select at least 1 clip, but {n_clips} were asked for.")
    if n_clips > ranking.n_selectable:
        raise InputError(f"The round asks for {n_clips} clips, but only {ranking.n_selectable} are left in the pool.")
    scored = ranking.n_selectable - ranking.n_failed
    if n_clips > scored:
        raise InputError(
            f"The round asks for {n_clips} clips, but only {scored} of {ranking.n_selectable} clips of the pool can be "
            f"selected ({ranking.n_failed} failed in scoring)."
        )
    if n_clips > ranking.n_ranked:
        raise InputError(
            f"The round asks for {n_clips} clips, but only {ranking.n_ranked} of {scored} scored clips have a key "
            "frame and select.without_key_frame is next_ranked: use drop or keep_clip, or train for longer."
        )


def buy_best(pool: Pool, n_clips: int, ranker: Ranker, config: SelectConfig) -> list[Selection]:
    """The `n_clips` first of a ranking, with the reason for each."""
    ranking = top_n(pool, n_clips, columns_of(pool, *ranker.columns), ranker.value, ranker.keep)
    check_enough(n_clips, ranking, config)
    (batch,) = ranking.table.combine_chunks().to_batches()
    details = [f" ({text})" for text in ranker.detail(batch)] if ranker.detail else [""] * len(batch)
    whys = [
        f"{ranker.words} {value:.4g} ranks {rank} of {ranking.n_ranked}{detail}"
        for rank, (value, detail) in enumerate(zip(ranking.table.column("value").to_pylist(), details), 1)
    ]
    return buy_in_order(pool, ranking.table, config, whys)


def buy_in_order(pool: Pool, table: pa.Table, config: SelectConfig, whys: Sequence[str]) -> list[Selection]:
    """One row for each row of `table` (`COLUMNS` and `value`), in its order; each reason begins with its why."""
    selections = []
    names = [name for name in (*COLUMNS, "clip_token", "value", "stratum") if name in table.column_names]
    for rank, (row, why) in enumerate(zip(table.select(names).to_pylist(), whys), 1):
        start, stop, what = bought_frames(row, config)
        stratum, reason = row.get("stratum", ""), f"{why}; {what}."
        selections.append(
            Selection(pool.round, row["clip_token"], start, stop, rank, row["value"], stratum, reason, stop - start)
        )
    return selections


def bought_frames(row: dict[str, Any], config: SelectConfig) -> tuple[int, int, str]:
    """Frames [start, stop) to annotate, and why those."""
    if not config.key_frames:
        return 0, row["n_frames"], "the whole clip is bought"
    if row["key_length"]:
        start, stop = row["key_start"], row["key_start"] + row["key_length"]
        return start, stop, f"frames {start} to {stop - 1} of {row['n_frames']} are its longest run of key frames"
    if config.without_key_frame == "keep_clip":
        return 0, row["n_frames"], "it has no key frame and is bought whole (keep_clip)"
    return 0, 0, "it has no key frame and adds none (drop)"
