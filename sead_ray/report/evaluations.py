"""The evaluations of a run's rounds, arranged as the page's tables."""

from __future__ import annotations

from typing import Any

from sead_ray.report.rounds import RoundRow, is_number

SLICE_ORDER = (
    *("day", "night", "sunny", "rainy", "straight", "go_straight", "left", "turn_left", "right", "turn_right"),
    "overtake",
)
BASELINES = {"standing_still": "Standing still", "constant_velocity": "Constant velocity"}

Evaluations = dict[int, dict[str, Any] | None]  # by round; None where it is not evaluated


def latest_of(evaluations: Evaluations) -> dict[str, Any] | None:
    return next((evaluations[number] for number in sorted(evaluations, reverse=True) if evaluations[number]), None)


def comparisons(evaluation: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Plans that need no camera."""
    return [{"name": label, **evaluation[key]} for key, label in BASELINES.items() if evaluation and key in evaluation]


def tiles(rows: list[RoundRow], evaluation: dict[str, Any] | None) -> list[dict[str, str]]:
    """The run in a few numbers: the last evaluated round, what it took, and what it is to be held against."""
    row = next((row for row in reversed(rows) if is_number(row.l2_m.get("avg"))), rows[-1] if rows else None)
    if row is None:
        return []
    found = []
    names = {"l2_m": ("Average L2", "m"), "collision_percent": ("Average collision rate", "%")}
    for metric, (label, unit) in names.items():
        value = getattr(row, metric).get("avg")
        if is_number(value):
            note = _interval(row, metric, unit) or f"after round {row.round}"
            found.append({"label": label, "value": f"{value:.2f} {unit}", "note": note})
    still = (evaluation or {}).get("constant_velocity", {}).get("l2_m", {}).get("avg")
    if is_number(still):
        found.append({"label": "Constant velocity, L2", "value": f"{still:.2f} m", "note": "needs no camera, no label"})
    last = rows[-1]
    for label, count, share in (
        ("Labelled frames", last.n_frames, last.frames_share),
        ("Clips bought", last.n_clips, last.clips_share),
    ):
        found.append({"label": label, "value": f"{count:,}", "note": f"{100 * share:.1f} % of the pool's"})
    if row.gain is not None:
        found.append({"label": "G = P / B", "value": f"{row.gain:.2f}", "note": "(1 / L2) / share of frames"})
    return found


def _interval(row: RoundRow, metric: str, unit: str) -> str:
    found = row.intervals.get(metric, {}).get("avg")
    return f"95 % interval {found[0]:.2f} to {found[1]:.2f} {unit}" if found else ""


def slice_table(evaluations: Evaluations) -> dict[str, Any]:
    """Table 2: one row a round, one column a slice; the whole val split last, from the planner's own metrics."""
    found = {
        index: evaluation["slices"]
        for index, evaluation in evaluations.items()
        if evaluation and "slices" in evaluation
    }
    names = {name for slices in found.values() for name in slices if name.lower() != "all"}

    def order(name: str) -> tuple[int, str]:
        low = name.lower().replace(" ", "_")
        return (SLICE_ORDER.index(low) if low in SLICE_ORDER else len(SLICE_ORDER), low)

    columns = sorted(names, key=order)
    rows = []
    for index, slices in found.items():
        planner = (evaluations[index] or {}).get("planner", {})
        whole = {
            "l2_avg_m": planner.get("l2_m", {}).get("avg"),
            "collision_avg_percent": planner.get("collision_percent", {}).get("avg"),
            "n_frames": planner.get("n_frames"),
        }
        rows.append({"round": index, "cells": [slices.get(name) for name in columns] + [whole]})
    return {"columns": [name.replace("_", " ").capitalize() for name in columns] + ["All"], "rows": rows}


def perception_table(evaluations: Evaluations) -> list[dict[str, Any]]:
    """One row a round whose evaluation measured it: detection by two choices of what counts, map, motion by group."""
    return [
        {
            "round": index,
            "detection": [found["detection"].get(protocol, {}) for protocol in ("nuscenes", "vad_range")],
            "map": found["map"]["mAP"],
            "motion": [found["motion"].get(group, {}) for group in ("car", "pedestrian")],
        }
        for index, found in evaluations.items()
        if found and "detection" in found
    ]
