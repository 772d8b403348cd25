"""What the page needs from the run folder, beyond the rounds' table."""

from __future__ import annotations

import json
from typing import Any

from sead_ray.errors import InputError
from sead_ray.records import Clip, FrameLabels
from sead_ray.report.rounds import round_key
from sead_ray.report.tables import CLIPS, clip_summaries, rows_where
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA, SCORE_SCHEMA
from sead_ray.storage import Store


def clips_of(run: Store, tokens: set[str]) -> dict[str, Clip]:
    """The clips of these tokens that the run knows."""
    if not tokens or not run.is_published("clips"):
        return {}
    rows = rows_where(run, CLIPS, CLIP_SCHEMA, "clip_token", tokens)
    return {row["clip_token"]: Clip.from_row(row) for row in rows}


def labels_of(run: Store, frame_tokens: set[str], delivery: Store | None = None) -> dict[str, FrameLabels]:
    """Labels of these frames, from the run and from the folder `delivery` of annotators (default: labels_in)."""
    if not frame_tokens:
        return {}
    folder = delivery or run.below("labels_in")
    sources = [(folder, name) for name in folder.list(suffix=".parquet")]
    if run.is_published("labels"):  # last: where both hold a frame, the run's own file counts
        sources.append((run, "labels/labels.parquet"))
    found: dict[str, FrameLabels] = {}
    for store, key in sources:
        rows = rows_where(store, key, LABEL_SCHEMA, "frame_token", frame_tokens)
        found.update({row["frame_token"]: FrameLabels.from_row(row) for row in rows})
    return found


def scores_of(run: Store, index: int) -> list[dict[str, Any]]:
    """SCORE_SCHEMA rows of the pool's rest as round `index` saw it, without embeddings; none in the first round."""
    folder = round_key(index, "scores")
    if not run.is_published(folder):
        return []
    columns = [name for name in SCORE_SCHEMA.names if name != "embedding"]
    return sorted(
        run.iter_rows(f"{folder}/scores.parquet", SCORE_SCHEMA, columns=columns), key=lambda row: row["clip_token"]
    )


def losses_of(run: Store, index: int) -> list[dict[str, Any]]:
    """Logged steps of a round's training: {"step", "loss", "losses": {name: value}, ...}."""
    key = f"{round_key(index, 'model')}/metrics.jsonl"
    if not run.is_published(round_key(index, "model")) or not run.exists(key):
        return []
    steps = []
    for line_number, line in enumerate(run.read_bytes(key).decode().splitlines(), start=1):
        try:
            if line.strip():
                steps.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{run.path(key)}, line {line_number}, is not valid JSON: {error}.") from None
    return steps


def data_facts(run: Store) -> list[dict[str, Any]]:
    """For pool and val: numbers of clips, key frames, night clips, rainy clips, and the locations."""
    if not run.is_published("clips"):
        return []
    facts: dict[str, dict[str, Any]] = {}
    for summary in clip_summaries(run):
        split = summary["split"]
        fact = facts.setdefault(
            split, {"split": split, "clips": 0, "frames": 0, "night": 0, "rainy": 0, "locations": set()}
        )
        fact["clips"] += 1
        fact["frames"] += summary["n_frames"]
        fact["night"] += summary["is_night"]
        fact["rainy"] += summary["is_rainy"]
        fact["locations"].add(summary["location"])
    return [{**facts[split], "locations": ", ".join(sorted(facts[split]["locations"]))} for split in sorted(facts)]
