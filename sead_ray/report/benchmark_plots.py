"""The benchmark's tables as figures: one panel for L2, one for the collision rate, with confidence intervals."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from sead_ray.report.benchmark import SLICES, Row, estimate
from sead_ray.report.rounds import is_number
from sead_ray.report.svg import styled

COLORS = ("#0072b2", "#c24d00", "#00795a", "#8a4a78", "#555555", "#b8860b", "#56b4e9", "#d55e00", "#009e73", "#111111")
MARKERS = "osD^vPX*<>"
PANELS = (("l2", "average L2 (m)"), ("collision", "average collision rate (%)"))

# (position on the x axis, mean, half width of the interval) of one line.
Points = list[tuple[float, float, float]]


def figure(name: str, rows: Sequence[Row]) -> str:
    """SVG of one of `benchmark_text.TITLES`; bytes depend on the rows alone."""
    if name == "table_2":
        panels = [{row["method"]: _slice_points(row, panel) for row in rows} for panel, _ in PANELS]
        return _draw(panels, "", [(float(i), label) for i, label in enumerate(SLICES)])
    whole = {row["arm"]: row for row in rows}.get("complete") if name == "table_1" else None
    label = {"table_1": "method", "table_3": "id", "figure_5": "shift"}[name]
    lines: dict[str, list[Row]] = {}
    for row in (row for row in rows if row is not whole):
        lines.setdefault(f"arm {row['id']}" if label == "id" else row[label], []).append(row)
    panels = [{line: _points(of, metric) for line, of in lines.items()} for metric in ("l2_m", "collision_percent")]
    bars = [whole[f"{metric}_avg"] if whole else None for metric in ("l2_m", "collision_percent")]
    return _draw(panels, "labelled clips (%)", [], bars)


def _points(rows: Sequence[Row], metric: str) -> Points:
    found = [(row["percent"], estimate(row, f"{metric}_avg")) for row in rows]
    return [(percent, value.mean, value.half_width) for percent, value in found if value.n]


def _slice_points(row: Row, panel: str) -> Points:
    metric = {"l2": "l2_avg_m", "collision": "collision_avg_percent"}[panel]
    found = [estimate(row, f"{column.lower().replace(' ', '_')}_{metric}") for column in SLICES]
    return [(float(i), value.mean, value.half_width) for i, value in enumerate(found) if value.n]


def _draw(
    panels: Sequence[dict[str, Points]],
    x_label: str,
    ticks: list[tuple[float, str]],
    bars: Sequence[float | None] = (None, None),
) -> str:
    """`ticks`: names along the x axis instead of numbers; `bars`: what full labels reach, drawn across each panel."""
    with styled():
        drawing = Figure(figsize=(11, 4.2))
        for number, (lines, (_, y_label)) in enumerate(zip(panels, PANELS)):
            axes = drawing.add_axes((0.07 + 0.5 * number, 0.24 if ticks else 0.14, 0.41, 0.6 if ticks else 0.68))
            for index, (line, points) in enumerate(lines.items()):
                shift = 0.08 * (index - len(lines) / 2) if ticks else 0.0  # intervals beside each other
                color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
                axes.errorbar(
                    [x + shift for x, _, _ in points],
                    [mean for _, mean, _ in points],
                    yerr=[half if is_number(half) else 0.0 for _, _, half in points],
                    color=color, marker=marker, markersize=5, capsize=3, label=line,
                    linestyle="none" if ticks else "-",
                )  # fmt: skip
            bar = bars[number]
            if bar is not None and is_number(bar):
                axes.axhline(bar, color="#555555", linestyle="--", linewidth=1.4, label="everything labelled (100 %)")
            axes.set(xlabel=x_label, ylabel=y_label)
            if ticks:
                axes.set_xticks([x for x, _ in ticks], [text for _, text in ticks], rotation=35, ha="right")
        handles, labels = drawing.axes[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="upper center", ncols=6, frameon=False, fontsize=9)
        out = io.StringIO()
        drawing.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
