"""The rounds' table: what was bought, how well the planner drives, what it took. Published rounds only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from sead_ray.arrow import compute as pc
from sead_ray.evaluation.intervals import Interval, intervals
from sead_ray.report.tables import clip_facts
from sead_ray.schemas import SCORE_SCHEMA, SELECTION_SCHEMA
from sead_ray.storage import Store

STAGES = ("scores", "selection", "model", "evaluation")  # folders of a round, in the order of work
HORIZONS = ("1s", "2s", "3s", "avg")
NOTHING = "–"


@dataclass(frozen=True)
class PoolSize:
    n_clips: int
    n_frames: int


@dataclass(frozen=True)
class RoundRow:
    """One round. Clips and frames are counted from the first round on; a stage not published leaves its part empty.

    Attributes:
        clips_share, frames_share: of the pool's clips and frames, 0 to 1.
        l2_m, collision_percent: by horizon ("1s", "2s", "3s", "avg"); empty before the evaluation.
        seconds: by folder of the round ("scores", "selection", "model", "evaluation").
        n_without_key_frame: clips of this round's purchase that have no key frame; None where none was scored.
        strategy: that chose this round's purchase; empty where the run does not say.
        intervals: 95 % over val clips, by metric ("l2_m", "collision_percent") and horizon; empty where unknown.
    """

    round: int
    n_clips: int
    n_frames: int
    n_new_clips: int
    n_new_frames: int
    clips_share: float
    frames_share: float
    l2_m: dict[str, float]
    collision_percent: dict[str, float]
    seconds: dict[str, float]
    n_without_key_frame: int | None
    strategy: str = ""
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)

    @property
    def gain(self) -> float | None:
        """G = P / B of the paper, read as (1 / average L2 in m) / share of labelled frames."""
        l2_avg_m = self.l2_m.get("avg")
        if not is_number(l2_avg_m) or not l2_avg_m or not self.frames_share:
            return None
        return 1 / l2_avg_m / self.frames_share

    @property
    def seconds_total(self) -> float:
        return sum(self.seconds.values())


def round_key(index: int, stage: str) -> str:
    return f"rounds/{index:02d}/{stage}"


def published_rounds(run: Store) -> list[int]:
    """Rounds whose purchase is published, from 0 without a gap."""
    found: list[int] = []
    while run.is_published(round_key(len(found), "selection")):
        found.append(len(found))
    return found


def selection_rows(run: Store, index: int) -> list[dict[str, Any]]:
    """Rows of SELECTION_SCHEMA of one round, best first."""
    rows = run.iter_rows(f"{round_key(index, 'selection')}/selection.parquet", SELECTION_SCHEMA)
    return sorted(rows, key=lambda row: (row["rank"], row["clip_token"], row["frame_start"]))


def evaluation_of(run: Store, index: int) -> dict[str, Any] | None:
    key = round_key(index, "evaluation")
    return run.read_json(f"{key}/evaluation.json") if run.is_published(key) else None


def pool_size(run: Store) -> PoolSize:
    """Clips and key frames of the pool."""
    lengths = clip_facts(run, "pool").column("n_frames")
    return PoolSize(len(lengths), pc.sum(lengths).as_py() or 0)


def rounds_table(run: Store) -> list[RoundRow]:
    """One row for each round whose purchase is published; an empty list before the first."""
    indices = published_rounds(run)
    if not indices:
        return []
    pool = pool_size(run)
    clips: set[str] = set()
    n_frames = 0
    rows = []
    for index in indices:
        bought = selection_rows(run, index)
        new_clips = {row["clip_token"] for row in bought} - clips
        n_new_frames = sum(row["n_frames_bought"] for row in bought)
        clips |= new_clips
        n_frames += n_new_frames
        evaluation = evaluation_of(run, index) or {}
        planner = evaluation.get("planner", {})
        rows.append(
            RoundRow(
                round=index,
                n_clips=len(clips),
                n_frames=n_frames,
                n_new_clips=len(new_clips),
                n_new_frames=n_new_frames,
                clips_share=len(clips) / max(pool.n_clips, 1),
                frames_share=n_frames / max(pool.n_frames, 1),
                l2_m=planner.get("l2_m", {}),
                collision_percent=planner.get("collision_percent", {}),
                seconds=_stage_seconds(run, index),
                n_without_key_frame=_without_key_frame(run, index, new_clips),
                strategy=run.manifest(round_key(index, "selection")).get("strategy", ""),
                intervals=intervals(evaluation.get("clips", {})),
            )
        )
    return rows


def format_table(rows: list[RoundRow]) -> str:
    """Plain text, one line a round, columns right-aligned; metrics are averages over 1, 2 and 3 s."""
    header = ("round", "clips", "frames", "share of labels", "L2 (m)", "collision rate (%)", "seconds")
    body = [
        (
            str(row.round),
            str(row.n_clips),
            str(row.n_frames),
            f"{100 * row.frames_share:.1f} %",
            number(row.l2_m.get("avg"), 2),
            number(row.collision_percent.get("avg"), 2),
            number(row.seconds_total, 1),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (header, *body)) for column in range(len(header))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in (header, *body)]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def number(value: Any, digits: int) -> str:
    """A number to so many digits; a dash where there is none."""
    return f"{value:.{digits}f}" if is_number(value) else NOTHING


def _stage_seconds(run: Store, index: int) -> dict[str, float]:
    found = {}
    for stage in STAGES:
        key = round_key(index, stage)
        seconds: Any = run.manifest(key).get("seconds") if run.is_published(key) else None
        if is_number(seconds):
            found[stage] = float(seconds)
    return found


def _without_key_frame(run: Store, index: int, selected: set[str]) -> int | None:
    """Counted from the scores: under `without_key_frame: keep_clip` such a clip is bought whole."""
    folder = round_key(index, "scores")
    if not run.is_published(folder):
        return None
    rows = run.iter_rows(f"{folder}/scores.parquet", SCORE_SCHEMA, columns=["clip_token", "key_length"])
    return sum(1 for row in rows if row["clip_token"] in selected and not row["key_length"])
