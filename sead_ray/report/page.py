"""The run's page: one HTML file that needs nothing beside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from sead_ray.arrow import compute as pc
from sead_ray.config import RunConfig
from sead_ray.report import provenance
from sead_ray.report.cards import ClipCard, cards_of
from sead_ray.report.clip_table import FIRST_ROWS, MOST_CLIPS, as_script_data, choices, table_rows
from sead_ray.report.environment import environment
from sead_ray.report.evaluations import comparisons, latest_of, perception_table, slice_table, tiles
from sead_ray.report.plots import loss_curve, metric_curve, representation, score_histogram
from sead_ray.report.read import clips_of, data_facts, losses_of, quarantined, score_table
from sead_ray.report.rounds import HORIZONS, STAGES, RoundRow, evaluation_of, rounds_table, selection_rows
from sead_ray.report.scored import ScoredRound
from sead_ray.report.strata import kinds_of, stratum_of
from sead_ray.report.tables import clip_facts
from sead_ray.report.thumbnails import ByteBudget
from sead_ray.storage import Store

PAGE = "report/index.html"
CARD_BYTES = 9_000_000  # thumbnails and drawings of clips together; the whole page stays below 20 MB
LISTED = 200  # of the clips that failed in a round, or are quarantined
STAGE_NAMES = dict(zip(STAGES, ("score", "select", "train", "evaluate")))


def write_report(run: Store, data_root: str, config: RunConfig, seed_runs: Sequence[Store] = ()) -> str:
    """Writes `report/index.html` into the run folder, whole or not at all, and returns its path.

    Works at any point of a run: what is not published yet is left out, and the page says so.

    Args:
        data_root: the nuScenes folder, for thumbnails; an image that is missing there leaves a labelled gap.
        seed_runs: the same run with other seeds: the curves show their mean and its confidence interval.
    """
    run.write_bytes(PAGE, render_report(run, data_root, config, seed_runs).encode("utf-8", "replace"))
    return run.path(PAGE)


def render_report(
    run: Store, data_root: str, config: RunConfig, seed_runs: Sequence[Store] = (), board: str | None = None
) -> str:
    """The page as text. `board`: address of the run on the board that shows it; None: a file of its own."""
    script = resources.files("sead_ray.report").joinpath("templates/table.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = _context(run, Store(data_root), config, [rounds_table(other) for other in seed_runs])
    page = environment().get_template("index.html.j2")
    return page.render(**context, script=Markup(script), script_hash=f"sha256-{digest}", board=board)


def _context(run: Store, data: Store, config: RunConfig, seeds: list[list[RoundRow]]) -> dict[str, Any]:
    rows = rounds_table(run)
    evaluations = {row.round: evaluation_of(run, row.round) for row in rows}
    latest = latest_of(evaluations)
    facts = clip_facts(run) if run.is_published("clips") else None
    scored = [_scored(run, config, row) for row in rows]
    cards = [_cards(run, data, config, found, CARD_BYTES // len(rows)) for found in scored]
    return {
        "name": run.root.rstrip("/").rsplit("/", 1)[-1],
        "config": config,
        "config_json": config.model_dump_json(indent=1),
        "data_facts": data_facts(facts),
        "tiles": tiles(rows, latest),
        "rows": rows,
        "n_seeds": len(seeds) + 1,
        "planned_rounds": len(config.select.rounds),
        "is_finished": sum(1 for found in evaluations.values() if found) == len(config.select.rounds),
        "horizons": HORIZONS,
        "stages": STAGE_NAMES,
        "comparisons": comparisons(latest),
        "curves": [
            ("Average L2", metric_curve(rows, latest, "l2_m", "average L2 (m)", seeds)),
            ("Average collision rate", metric_curve(rows, latest, "collision_percent", "collision rate (%)", seeds)),
        ],
        "slices": slice_table(evaluations),
        "perception": perception_table(evaluations),
        "rounds": [_round(run, config, found, row, shown) for found, row, shown in zip(scored, rows, cards)],
        **_all_clips(run, config, facts, scored, cards),
        "listed": LISTED,
        "models": [facts for row in rows if (facts := provenance.model_facts(run, row.round))],
        "versions": provenance.versions(),
        "manifests": provenance.manifests(run, [row.round for row in rows]),
    }


def _scored(run: Store, config: RunConfig, row: RoundRow) -> ScoredRound:
    strategy = row.strategy or (config.select.incremental if row.round else config.select.initial)
    return ScoredRound(row.round, strategy, score_table(run, row.round), selection_rows(run, row.round), config)


def _cards(run: Store, data: Store, config: RunConfig, found: ScoredRound, n_bytes: int) -> list[ClipCard]:
    delivery = Store(config.labels.delivery) if config.labels.delivery else None
    near_m = config.score.theta_distance_m
    return cards_of(run, data, found.index, found.purchases, near_m, ByteBudget(n_bytes), delivery)


def _round(run: Store, config: RunConfig, found: ScoredRound, row: RoundRow, cards: list[ClipCard]) -> dict[str, Any]:
    n_scored, n_without_key, failed = 0, 0, []
    if found.table is not None:
        n_scored = int(found.is_scored.sum())
        lengths = pc.equal(found.table.column("key_length"), 0).to_numpy()
        n_without_key = int((found.is_scored & lengths).sum())
        failed = found.table.filter(pa.array(~found.is_scored)).select(["clip_token", "reason"]).to_pylist()
    values = {token: float(value) for token, value in zip(found.tokens, found.values)}
    selected = {purchase["clip_token"] for purchase in found.purchases}
    return {
        "row": row,
        "strategy": found.strategy,
        "n_purchases": len(found.purchases),
        "cards": cards,
        "loss": loss_curve(found.index, losses_of(run, found.index)),
        "histogram": score_histogram(found.index, values, selected, found.cut),
        "value_name": found.value_name,
        "n_scored": n_scored,
        "n_scored_without_key_frame": n_without_key,
        "n_failed": len(failed),
        "failed": _named(run, {row["clip_token"]: row["reason"] for row in failed[:LISTED]}),
    }


def _all_clips(
    run: Store, config: RunConfig, facts: pa.Table | None, scored: list[ScoredRound], cards: list[list[ClipCard]]
) -> dict[str, Any]:
    """What is said of the whole pool: its kinds, the table of all clips, who is left out."""
    left_out = quarantined(run)
    if facts is None:
        return {
            "kinds": [],
            "representation": None,
            "n_pool": 0,
            "clip_rows": [],
            "quarantined": [],
            "n_quarantined": 0,
        }
    pool = facts.filter(pc.equal(facts.column("split"), "pool"))
    strata = stratum_of(pool, config.select.valuable_ratio)
    bought: list[set[str]] = []
    for found in scored:
        bought.append({row["clip_token"] for row in found.purchases} | (bought[-1] if bought else set()))
    kinds = kinds_of(pool, strata, bought)
    anchors = {card.clip.clip_token: card.anchor for shown in cards for card in shown}
    rows = table_rows(pool, strata, scored, left_out, set(config.select.exclude), anchors)
    return {
        "kinds": kinds,
        "representation": representation(kinds),
        "n_pool": len(pool),
        "most_clips": MOST_CLIPS,
        "clip_rows": rows[:FIRST_ROWS],
        "n_clip_rows": len(rows),
        "choices": choices(rows),
        "clip_data": as_script_data(rows),
        "quarantined": _named(run, dict(list(left_out.items())[:LISTED])),
        "n_quarantined": len(left_out),
    }


def _named(run: Store, reasons: dict[str, str]) -> list[dict[str, str]]:
    clips = clips_of(run, set(reasons))
    return [
        {"token": token, "name": clips[token].name if token in clips else "–", "reason": reason or "no reason given"}
        for token, reason in reasons.items()
    ]
