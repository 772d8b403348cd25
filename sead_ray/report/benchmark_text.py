"""The benchmark's tables as Markdown, in the paper's layouts."""

from __future__ import annotations

from collections.abc import Sequence

from sead_ray.report.benchmark import FIGURE_5, METRICS, SLICES, TABLE_3, Row, estimate
from sead_ray.report.rounds import HORIZONS, NOTHING

_CAPTION = "Mean ± half of the 95 % confidence interval over seeds."
TITLES = {
    "table_1": "Table 1: planning performance",
    "table_2": "Table 2: by weather, light and driving command, average L2 (m) / average CR (%) at the last budget",
    "table_3": "Table 3: effectiveness of modules, average over 1, 2 and 3 s",
    "figure_5": "Figure 5: calculation of the feature shift, average over 1, 2 and 3 s",
}


def markdown(name: str, rows: Sequence[Row], base_model: str) -> str:
    """One of `TITLES`."""
    body = {"table_1": _table_1, "table_2": _table_2, "table_3": _table_3, "figure_5": _figure_5}[name](
        rows, base_model
    )
    seeds = sorted({row["n_seeds"] for row in rows})
    counts = f"{seeds[0]}" if len(set(seeds)) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "no"
    return "\n".join([f"## {TITLES[name]}", "", *body, "", f"{_CAPTION} {counts} seed(s) an entry.", ""])


def _table_1(rows: Sequence[Row], base_model: str) -> list[str]:
    header = ["Base model", "Percent", "Method", *(f"L2 (m) {h}" for h in HORIZONS), *(f"CR (%) {h}" for h in HORIZONS)]
    lines = []
    for row in rows:
        numbers = [str(estimate(row, f"{metric}_{horizon}")) for metric in METRICS for horizon in HORIZONS]
        cells = [base_model, f"{row['percent']:g} %", row["method"], *numbers, f"{row['frames_percent']:.1f} %"]
        lines.append(cells)
    return _grid([*header, "labelled frames"], lines)


def _table_2(rows: Sequence[Row], _: str) -> list[str]:
    lines = []
    for row in rows:
        keys = [column.lower().replace(" ", "_") for column in SLICES]
        pairs = [(estimate(row, f"{k}_l2_avg_m"), estimate(row, f"{k}_collision_avg_percent")) for k in keys]
        lines.append([row["method"], *(f"{l2} / {rate}" for l2, rate in pairs)])
    return _grid(["Method", *SLICES], lines)


def _table_3(rows: Sequence[Row], _: str) -> list[str]:
    """Changes against arm 1 in brackets, as in the paper."""
    percents = sorted({row["percent"] for row in rows})
    header = ["ID", "RA", "DS", "FS", "KF"]
    header += [f"{what} {percent:g} %" for what in ("L2 (m)", "CR (%)") for percent in percents]
    by_place = {(row["id"], row["percent"]): row for row in rows}
    lines = []
    for number, (_, marks) in TABLE_3.items():
        if not any((number, percent) in by_place for percent in percents):
            continue
        cells = [str(number), *("✓" if mark else "-" for mark in marks)]
        for metric in METRICS:
            for percent in percents:
                mine, first = by_place.get((number, percent)), by_place.get((1, percent))
                cells.append(_with_change(mine, first if number > 1 else None, f"{metric}_avg"))
        lines.append(cells)
    return _grid(header, lines)


def _figure_5(rows: Sequence[Row], _: str) -> list[str]:
    percents = sorted({row["percent"] for row in rows})
    by_place = {(row["shift"], row["percent"]): row for row in rows}
    lines = []
    for name in FIGURE_5.values():
        cells = [
            str(estimate(by_place[name, percent], f"{metric}_avg")) if (name, percent) in by_place else NOTHING
            for metric in METRICS
            for percent in percents
        ]
        if any(cell != NOTHING for cell in cells):
            lines.append([name, *cells])
    return _grid(["FS from", *(f"{w} {p:g} %" for w in ("L2 (m)", "CR (%)") for p in percents)], lines)


def _with_change(mine: Row | None, first: Row | None, name: str) -> str:
    if mine is None:
        return NOTHING
    text = str(estimate(mine, name))
    return f"{text} ({mine[name] - first[name]:+.2f})" if first is not None and text != NOTHING else text


def _grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(header)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)]
