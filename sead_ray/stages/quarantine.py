"""Clips that a run leaves out: `quarantine.json` of the run folder, with the reason of each.

Stages add clips that failed `score.max_attempts` times; operators may edit the file, or write a plain list of tokens.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout, metrics
from sead_ray.stages.progress import say
from sead_ray.storage import Store

STATUS = "quarantined"  # of such a clip's row in scores and start features


def quarantined(run: Store) -> dict[str, str]:
    """Reasons by clip token; empty for tokens of a plain list.

    Raises:
        InputError: the file is neither a list of tokens nor tokens with reasons.
    """
    if not run.exists(layout.QUARANTINE):
        return {}
    found = run.read_json(layout.QUARANTINE)
    known = dict.fromkeys(found, "") if isinstance(found, list) and _all_texts(found) else found
    if not isinstance(known, dict) or not _all_texts([*known, *known.values()]):
        raise InputError(f"{run.path(layout.QUARANTINE)} must hold a JSON list of clip tokens.")
    return known


def quarantine(run: Store, reasons: dict[str, str]) -> None:
    """Adds clips with their reasons, before the stage that found them is published: later stages leave them out."""
    known = quarantined(run)
    new = {token: reason for token, reason in reasons.items() if token not in known}
    if new:
        run.write_json(layout.QUARANTINE, {**known, **new})
        say(f"{len(new)} clips were quarantined, with their reasons in {run.path(layout.QUARANTINE)}", "warning")
    metrics.show("sead_clips_quarantined", len({**known, **new}), run=run.root)


def quarantine_table(run: Store) -> str:
    """For people: a line a quarantined clip, with its scene's name where the run has prepared it, and the reason.

    Raises:
        InputError: there is no such run, or its file is none.
    """
    reasons = quarantined(run)
    if not reasons and not run.exists(layout.CONFIG) and not run.is_published(layout.CLIPS):
        raise InputError(f"{run.root} is not the folder of a run.")
    if not reasons:
        return f"No clip of {run.root} is quarantined."
    names = _names(run, reasons) if run.is_published(layout.CLIPS) else {}
    lines = [f"{'clip':<32} {'scene':<12} reason"]
    lines += [f"{token:<32} {names.get(token, '-'):<12} {reasons[token] or '-'}" for token in sorted(reasons)]
    return "\n".join([*lines, f"{len(reasons)} clip(s), from {run.path(layout.QUARANTINE)}"])


def _names(run: Store, tokens: Collection[str]) -> dict[str, str]:
    wanted, found = pa.array(sorted(tokens), pa.string()), {}
    for batch in run.iter_batches(layout.CLIPS_FILE, CLIP_SCHEMA, ["clip_token", "name"]):
        kept = batch.filter(pc.is_in(batch.column("clip_token"), wanted))
        found.update(zip(*(column.to_pylist() for column in kept.columns)))
    return found


def reasons_in(table: pa.Table) -> dict[str, str]:
    """Reasons by clip token of the quarantined rows of scores or start features."""
    rows = table.filter(pc.equal(table.column("status"), STATUS))
    return dict(zip(rows.column("clip_token").to_pylist(), rows.column("reason").to_pylist()))


def _all_texts(items: list[object]) -> bool:
    return all(isinstance(item, str) for item in items)
