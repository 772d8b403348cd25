"""What the page needs from the run folder, beyond the rounds' table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.records import Clip, FrameLabels
from sead_ray.report.rounds import round_key
from sead_ray.report.tables import CLIPS, columns_of, rows_where, smallest_of_lists
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA, SCORE_SCHEMA
from sead_ray.storage import Store

QUARANTINE = "quarantine.json"  # as sead_ray.stages.quarantine writes it
_SCALARS = (
    *("clip_token", "status", "reason", "n_transitions", "shift_sum", "shift_mean", "shift_agents_sum"),
    *("shift_map_sum", "shift_bev_sum", "key_start", "key_length", "selectable"),
)


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


def scores_of(run: Store, index: int, tokens: set[str]) -> dict[str, dict[str, Any]]:
    """SCORE_SCHEMA rows of these clips by token, as round `index` saw them; none in the first round."""
    folder = round_key(index, "scores")
    if not tokens or not run.is_published(folder):
        return {}
    rows = rows_where(run, f"{folder}/scores.parquet", SCORE_SCHEMA, "clip_token", tokens)
    return {row["clip_token"]: row for row in rows}


def score_table(run: Store, index: int) -> pa.Table | None:
    """One row a clip that round `index` scored: the numbers, and `nearest_m`; None where nothing was scored."""
    folder = round_key(index, "scores")
    if not run.is_published(folder):
        return None
    table = columns_of(run, f"{folder}/scores.parquet", SCORE_SCHEMA, [*_SCALARS, "min_distance_m"])
    nearest = pa.array(smallest_of_lists(table.column("min_distance_m")))
    return table.drop_columns(["min_distance_m"]).append_column("nearest_m", nearest)


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


def quarantined(run: Store) -> dict[str, str]:
    """Reasons by token of the clips that the run leaves out; what is no such file counts as none here."""
    if not run.exists(QUARANTINE):
        return {}
    found = run.read_json(QUARANTINE)
    known = dict.fromkeys(found, "") if isinstance(found, list) else found
    return {str(token): str(reason) for token, reason in known.items()} if isinstance(known, dict) else {}


def data_facts(facts: pa.Table | None) -> list[dict[str, Any]]:
    """For pool and val: numbers of clips, key frames, night clips, rainy clips, and the locations.

    Args:
        facts: of `tables.clip_facts`; None before the clips are prepared.
    """
    if facts is None:
        return []
    return [_fact(split, facts.filter(pc.equal(facts.column("split"), split))) for split in _values(facts, "split")]


def _fact(split: str, clips: pa.Table) -> dict[str, Any]:
    counts = {name: pc.sum(clips.column(name)).as_py() or 0 for name in ("n_frames", "is_night", "is_rainy")}
    locations = ", ".join(_values(clips, "location"))
    return {
        "split": split,
        "clips": len(clips),
        "frames": counts["n_frames"],
        "night": counts["is_night"],
        "rainy": counts["is_rainy"],
        "locations": locations,
    }


def _values(table: pa.Table, name: str) -> Sequence[str]:
    return sorted(table.column(name).unique().to_pylist())
