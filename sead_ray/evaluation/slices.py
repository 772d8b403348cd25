"""SEAD's Table 2: planning by light, weather and manoeuvre; and the evaluation's whole report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sead_ray.errors import InputError
from sead_ray.evaluation.intervals import clip_summaries
from sead_ray.evaluation.planning import FramePlanning, summarise
from sead_ray.records import Clip

# Every slice is a set of whole clips: light and weather from the scene's description, the manoeuvre from the clip's
# behaviour (`data.overtake_frames` says what an overtake is), not from the single frame's command.
SLICES: dict[str, Callable[[Clip], bool]] = {
    "Day": lambda clip: not clip.is_night,
    "Night": lambda clip: clip.is_night,
    "Sunny": lambda clip: not clip.is_rainy,
    "Rainy": lambda clip: clip.is_rainy,
    "Go Straight": lambda clip: clip.behaviour == "straight",
    "Turn Left": lambda clip: clip.behaviour == "left",
    "Turn Right": lambda clip: clip.behaviour == "right",
    "Overtake": lambda clip: clip.behaviour == "overtake",
    "All": lambda clip: True,
}


def slice_records(records: Sequence[FramePlanning], clips: Iterable[Clip]) -> dict[str, list[FramePlanning]]:
    """The records of each slice.

    Raises:
        InputError: a record's clip is not among `clips`.
    """
    by_token = {clip.clip_token: clip for clip in clips}
    for record in records:
        if record.clip_token not in by_token:
            raise InputError(f"Frame {record.frame_token} belongs to clip {record.clip_token}, which was not given.")
    return {
        name: [record for record in records if belongs(by_token[record.clip_token])] for name, belongs in SLICES.items()
    }


def slice_table(records: Sequence[FramePlanning], clips: Iterable[Clip]) -> dict[str, dict[str, Any]]:
    """{slice: {"l2_avg_m", "collision_avg_percent", "n_frames"}}; None in an empty slice."""
    table = {}
    for name, chosen in slice_records(records, clips).items():
        summary = summarise(chosen)
        table[name] = {
            "l2_avg_m": summary["l2_m"]["avg"],
            "collision_avg_percent": summary["collision_percent"]["avg"],
            "n_frames": summary["n_frames"],
        }
    return table


def evaluation_report(
    planner: Sequence[FramePlanning],
    standing_still: Sequence[FramePlanning],
    constant_velocity: Sequence[FramePlanning],
    clips: Iterable[Clip],
) -> dict[str, Any]:
    """What `evaluation.json` holds: `summarise` of the planner and of both baselines, and the planner's slices
    and its means by clip, from which confidence intervals come.

    Raises:
        InputError: the three were not measured on the same frames, or a clip is missing.
    """
    frames = sorted(record.frame_token for record in planner)
    for name, records in (("standing_still", standing_still), ("constant_velocity", constant_velocity)):
        if sorted(record.frame_token for record in records) != frames:
            raise InputError(f"The {name} baseline was not measured on the same frames as the planner.")
    return {
        "planner": summarise(planner),
        "standing_still": summarise(standing_still),
        "constant_velocity": summarise(constant_velocity),
        "slices": slice_table(planner, clips),
        "clips": clip_summaries(planner),
    }
