"""The table of all clips of the pool, with the reason for each choice: rows for the page's script, and the first few
as HTML for printing and for readers without scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup
from numpy.typing import NDArray

from sead_ray.report.scored import ScoredRound

MOST_CLIPS = 20_000  # about 7 MB; of a larger pool the bought clips and the highest scores are shown
FIRST_ROWS = 25
DIGITS = 4
LONGEST_TEXT = 400  # of a reason or description: what others wrote shall not fill the page


@dataclass(frozen=True)
class TableRow:
    """One clip. Numbers are of the last round that scored it; None where none did.

    Attributes:
        state: "round 2", "not bought", "failed", "quarantined", "excluded".
        frames_bought: as "3–9"; empty where none were.
        history: of each round that scored it before it was bought: [round, score, rank, of how many].
        anchor: id of its card in the gallery; empty where it has none.
    """

    name: str
    token: str
    state: str
    score: float | None
    agents: float | None
    map: float | None
    key_frames: int | None
    nearest_m: float | None
    frames: int
    frames_bought: str
    light: str
    weather: str
    behaviour: str
    stratum: str
    location: str
    reason: str
    description: str
    history: list[list[float | None]]
    anchor: str


FILTERS = ("state", "light", "weather", "behaviour", "stratum", "location")


def table_rows(
    pool: pa.Table,
    strata: NDArray[np.str_],
    rounds: Sequence[ScoredRound],
    quarantined: Mapping[str, str],
    excluded: set[str],
    anchors: Mapping[str, str],
) -> list[TableRow]:
    """At most `MOST_CLIPS` rows: bought clips first, by round and rank; then the others by falling score.

    Args:
        pool: `tables.clip_facts` of the pool; strata: of its rows.
    """
    bought = {row["clip_token"]: (found, row) for found in reversed(rounds) for row in found.purchases}
    last = next((found for found in reversed(rounds) if found.table is not None), None)
    scores = dict(zip(last.tokens, last.values)) if last else {}
    tokens = pool.column("clip_token").to_pylist()

    def order(position: int) -> tuple[float, float, str]:
        token = tokens[position]
        if token in bought:
            return bought[token][0].index, bought[token][1]["rank"], token
        score = scores.get(token, math.nan)
        return math.inf, math.inf if math.isnan(score) else -score, token

    chosen = sorted(range(len(tokens)), key=order)[:MOST_CLIPS]
    facts = pool.take(chosen).to_pylist()
    return [
        _row(fact, str(strata[position]), rounds, bought.get(fact["clip_token"]), quarantined, excluded, anchors)
        for position, fact in zip(chosen, facts)
    ]


def _row(
    fact: dict[str, Any],
    stratum: str,
    rounds: Sequence[ScoredRound],
    bought: tuple[ScoredRound, dict[str, Any]] | None,
    quarantined: Mapping[str, str],
    excluded: set[str],
    anchors: Mapping[str, str],
) -> TableRow:
    token = fact["clip_token"]
    seen = [found for found in rounds if token in found.rows and (bought is None or found.index <= bought[0].index)]
    state, reason = _state(token, rounds, seen, bought, quarantined, excluded)
    return TableRow(
        name=fact["name"],
        token=token,
        state=state,
        **_numbers(token, seen[-1] if seen else None),
        frames=fact["n_frames"],
        frames_bought=_frames(bought[1]) if bought else "",
        light="night" if fact["is_night"] else "day",
        weather="rain" if fact["is_rainy"] else "dry",
        behaviour=fact["behaviour"],
        stratum=stratum,
        location=fact["location"],
        reason=_cut(reason),
        description=_cut(fact["description"]),
        history=[_entry(found, found.rows[token]) for found in seen],
        anchor=anchors.get(token, ""),
    )


def _state(
    token: str,
    rounds: Sequence[ScoredRound],
    seen: Sequence[ScoredRound],
    bought: tuple[ScoredRound, dict[str, Any]] | None,
    quarantined: Mapping[str, str],
    excluded: set[str],
) -> tuple[str, str]:
    if bought:
        return f"round {bought[0].index}", bought[1]["reason"] or "No reason was given."
    if token in quarantined:
        return "quarantined", quarantined[token] or "Named in quarantine.json without a reason."
    if token in excluded:
        return "excluded", "Named in select.exclude."
    if seen and not seen[-1].is_scored[seen[-1].rows[token]]:
        return "failed", seen[-1].why_not(token)
    return "not bought", rounds[-1].why_not(token) if rounds else "No round has selected yet."


def _numbers(token: str, found: ScoredRound | None) -> dict[str, Any]:
    table = found.table if found else None
    if found is None or table is None or not found.is_scored[row := found.rows[token]]:
        return dict.fromkeys(("score", "agents", "map", "key_frames", "nearest_m"))
    columns = {
        "agents": "shift_agents_sum",
        "map": "shift_map_sum",
        "key_frames": "key_length",
        "nearest_m": "nearest_m",
    }
    known = {name: column for name, column in columns.items() if column in table.column_names}
    numbers = {name: table.column(column)[row].as_py() for name, column in known.items()}
    return {
        "score": _short(found.values[row]),
        "agents": _short(numbers.get("agents")),
        "map": _short(numbers.get("map")),
        "key_frames": numbers["key_frames"],
        "nearest_m": _short(numbers["nearest_m"]),
    }


def _entry(found: ScoredRound, row: int) -> list[float | None]:
    return [found.index, _short(found.values[row]), int(found.ranks[row]) or None, found.n_ranked]


def _frames(purchase: dict[str, Any]) -> str:
    if not purchase["n_frames_bought"]:
        return ""
    return f"{purchase['frame_start']}–{purchase['frame_stop'] - 1}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _short(value: Any) -> float | None:
    """To so many significant digits: what fits a table, in few bytes."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, int | float) and math.isfinite(value) else None


def choices(rows: Sequence[TableRow]) -> dict[str, list[str]]:
    """The values of each of `FILTERS`, in order."""
    return {name: sorted({getattr(row, name) for row in rows}) for name in FILTERS}


def as_script_data(rows: Sequence[TableRow]) -> Markup:
    """{"columns": names, "rows": values} as JSON that no text can end before its time."""
    names = [field.name for field in fields(TableRow)]
    content = {"columns": names, "rows": [list(asdict(row).values()) for row in rows]}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
