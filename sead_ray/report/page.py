"""The run's page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

import jinja2

from sead_ray.config import RunConfig
from sead_ray.report.cards import cards_of
from sead_ray.report.plots import loss_curve, metric_curve, score_histogram
from sead_ray.report.read import clips_of, data_facts, losses_of, scores_of
from sead_ray.report.rounds import (
    HORIZONS,
    NOTHING,
    STAGES,
    RoundRow,
    evaluation_of,
    number,
    round_key,
    rounds_table,
    selection_rows,
)
from sead_ray.report.thumbnails import ByteBudget
from sead_ray.storage import Store

PAGE = "report/index.html"
CARD_BYTES = 12_000_000  # thumbnails and sketches together; the whole page stays below 20 MB
FAILED_CLIPS_SHOWN = 200
SLICE_ORDER = ("day", "night", "sunny", "rainy", "straight", "go_straight", "left", "turn_left", "right", "turn_right")
PACKAGES = ("sead_ray", "torch", "ray", "numpy", "pyarrow", "matplotlib")


def write_report(run: Store, data_root: str, config: RunConfig) -> str:
    """Writes `report/index.html` into the run folder, whole or not at all, and returns its path.

    Works at any point of a run: what is not published yet is left out, and the page says so.

    Args:
        data_root: the nuScenes folder, for thumbnails; an image that is missing there leaves a labelled gap.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sead_ray.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    html = environment.get_template("index.html.j2").render(_context(run, Store(data_root), config))
    run.write_bytes(PAGE, html.encode("utf-8", "replace"))
    return run.path(PAGE)


def _context(run: Store, data: Store, config: RunConfig) -> dict[str, Any]:
    rows = rounds_table(run)
    evaluations = {row.round: evaluation_of(run, row.round) for row in rows}
    latest = next((found for row in reversed(rows) if (found := evaluations[row.round])), None)
    rounds = [_round(run, data, config, row, CARD_BYTES // len(rows)) for row in rows]
    return {
        "name": run.root.rstrip("/").rsplit("/", 1)[-1],
        "config": config,
        "config_json": config.model_dump_json(indent=1),
        "data_facts": data_facts(run),
        "rows": rows,
        "planned_rounds": len(config.select.rounds),
        "is_finished": sum(1 for found in evaluations.values() if found) == len(config.select.rounds),
        "horizons": HORIZONS,
        "stages": dict(zip(STAGES, ("score", "select", "train", "evaluate"))),
        "comparisons": _comparisons(latest),
        "curves": [
            ("Average L2", metric_curve(rows, latest, "l2_m", "average L2 (m)")),
            ("Average collision rate", metric_curve(rows, latest, "collision_percent", "average collision rate (%)")),
        ],
        "slices": _slices(evaluations),
        "perception": _perception(evaluations),
        "rounds": rounds,
        "failed": [entry for entry in rounds if entry["n_failed"]],
        "failed_shown": FAILED_CLIPS_SHOWN,
        "versions": _versions(),
        "manifests": _manifests(run, rows),
        "nothing": NOTHING,
    }


def _round(run: Store, data: Store, config: RunConfig, row: RoundRow, card_bytes: int) -> dict[str, Any]:
    index = row.round
    purchases, scores = selection_rows(run, index), scores_of(run, index)
    scored = [score for score in scores if score["status"] == "ok"]
    failed = [score for score in scores if score["status"] != "ok"]
    manifest = run.manifest(round_key(index, "selection"))
    strategy = manifest.get("strategy", config.select.incremental if index else config.select.initial)
    ranked_by = f"shift_{config.score.rank_by}"
    values = {score["clip_token"]: score[ranked_by] for score in scored}
    delivery = Store(config.labels.delivery) if config.labels.delivery else None
    selected = {purchase["clip_token"] for purchase in purchases}
    return {
        "row": row,
        "strategy": strategy,
        "n_purchases": len(purchases),
        "cards": cards_of(
            run, data, purchases, scores, config.score.theta_distance_m, ByteBudget(card_bytes), delivery
        ),
        "loss": loss_curve(index, losses_of(run, index)),
        "histogram": score_histogram(index, values, selected, show_cut=strategy == "sead"),
        "ranked_by": ranked_by,
        "n_scored": len(scored),
        "n_scored_without_key_frame": sum(1 for score in scored if not score["key_length"]),
        "n_failed": len(failed),
        "failed": _failed_clips(run, failed[:FAILED_CLIPS_SHOWN]),
        "model": _model(run, index),
    }


def _failed_clips(run: Store, failed: list[dict[str, Any]]) -> list[dict[str, str]]:
    clips = clips_of(run, {score["clip_token"] for score in failed})
    return [
        {
            "token": score["clip_token"],
            "name": clips[score["clip_token"]].name if score["clip_token"] in clips else NOTHING,
            "reason": score["reason"],
        }
        for score in failed
    ]


def _comparisons(evaluation: dict[str, Any] | None) -> list[dict[str, Any]]:
    names = {"standing_still": "Standing still", "constant_velocity": "Constant velocity"}
    return [{"name": label, **evaluation[key]} for key, label in names.items() if evaluation and key in evaluation]


def _slices(evaluations: dict[int, dict[str, Any] | None]) -> dict[str, Any]:
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


def _perception(evaluations: dict[int, dict[str, Any] | None]) -> list[dict[str, Any]]:
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


def _model(run: Store, index: int) -> dict[str, Any] | None:
    key = round_key(index, "model")
    if not run.is_published(key):
        return None
    manifest = run.manifest(key)
    return {
        "version": manifest.get("model_version", NOTHING),
        "steps": manifest.get("steps", NOTHING),
        "sha256": manifest.get("files", {}).get("weights.safetensors", NOTHING),
    }


def _manifests(run: Store, rows: list[RoundRow]) -> list[tuple[str, str]]:
    keys = ["clips", "labels", *(round_key(row.round, stage) for row in rows for stage in STAGES)]
    return [(key, json.dumps(run.manifest(key), indent=1, sort_keys=True)) for key in keys if run.is_published(key)]


def _versions() -> list[tuple[str, str]]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found
