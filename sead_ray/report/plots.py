"""The page's plots: matplotlib, without global state, to inline SVG whose bytes depend on the data alone."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sead_ray.report.rounds import RoundRow, is_number

STYLE: Any = {
    "svg.hashsalt": "sead_ray",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.edgecolor": "#555555",
    "axes.axisbelow": True,
    "hatch.linewidth": 0.8,
}
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#c24d00", "#00795a", "#8a4a78", "#555555"
BASELINES = {"standing_still": ("standing still", "--"), "constant_velocity": ("constant velocity", ":")}
MAX_POINTS = 300  # of a loss curve; more are averaged in buckets

# First match wins; names follow VAD's loss terms.
LOSS_GROUPS = (("planning", "plan"), ("map", "map"), ("motion", "traj"), ("detection", "cls"), ("detection", "bbox"))
GROUP_LINES = {
    "detection": (BLUE, "-"),
    "motion": (ORANGE, "--"),
    "map": (GREEN, "-."),
    "planning": (PURPLE, ":"),
    "other": (GREY, (0, (5, 1))),
}


def metric_curve(rows: list[RoundRow], evaluation: dict[str, Any] | None, metric: str, title: str) -> Markup | None:
    """Average of `metric` ("l2_m" | "collision_percent") against the share of labelled frames; None without a round."""
    points = [(100 * row.frames_share, getattr(row, metric).get("avg")) for row in rows]
    points = [(share, value) for share, value in points if is_number(value)]
    if not points:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        shares, values = zip(*points)
        axes.plot(shares, values, color=BLUE, marker="o", linewidth=2, label="planner")
        for name, (label, dashes) in BASELINES.items():
            value = (evaluation or {}).get(name, {}).get(metric, {}).get("avg")
            if is_number(value):
                axes.axhline(value, color=GREY, linestyle=dashes, linewidth=1.6, label=label)
        axes.set(xlabel="share of labelled frames (%)", ylabel=title)
        axes.set_xlim(0, 1.1 * max(shares) or 1)
        axes.set_ylim(bottom=0)
        _legend_above(axes)
        text = ", ".join(f"{value:.2f} at {share:.1f} %" for share, value in points)
        return _to_svg(figure, f"curve-{metric}", f"{title} of the planner: {text}")


def loss_curve(index: int, steps: list[dict[str, Any]]) -> Markup | None:
    """Total loss and its groups over a round's steps; None where nothing was logged."""
    if not steps:
        return None
    at = np.array([step["step"] for step in steps], float)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        total = np.array([step["loss"] for step in steps], float)
        axes.plot(*_thin(at, total), color="#111111", linewidth=2.2, label="total")
        for name, values in _grouped(steps).items():
            color, dashes = GROUP_LINES[name]
            axes.plot(*_thin(at, values), color=color, linestyle=dashes, linewidth=1.6, label=name)
        axes.set(xlabel="step", ylabel="loss")
        _log_scale(axes)
        _legend_above(axes)
        label = f"Loss of round {index}: total from {total[0]:.3g} to {total[-1]:.3g} over {len(steps)} logged steps"
        return _to_svg(figure, f"loss-{index}", label)


def score_histogram(index: int, scores: dict[str, float], selected: set[str], show_cut: bool) -> Markup | None:
    """Histogram of the pool's scores, the selected clips hatched, and the lowest selected score as the cut."""
    finite = {token: value for token, value in scores.items() if is_number(value)}
    if not finite:
        return None
    taken = np.array([value for token, value in sorted(finite.items()) if token in selected])
    rest = np.array([value for token, value in sorted(finite.items()) if token not in selected])
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        edges = np.histogram_bin_edges(list(finite.values()), bins=min(30, max(5, int(2 * len(finite) ** 0.5))))
        style: dict[str, Any] = {"bins": edges.tolist(), "stacked": True, "edgecolor": "white"}
        labels, colors = ["not selected", "selected"], ["#9ecae9", BLUE]
        # Any: two samples give a list of bar containers; the stubs also allow what other histtypes give.
        bars: Any = axes.hist([rest, taken], label=labels, color=colors, **style)[2]
        for bar in bars[1]:
            bar.set_hatch("///")
        label = f"Scores of {len(finite)} clips in round {index}, {len(taken)} selected"
        if show_cut and len(taken):
            axes.axvline(taken.min(), color=ORANGE, linestyle="--", linewidth=2, label=f"cut {taken.min():.3g}")
            label += f", lowest selected score {taken.min():.3g}"
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="score", ylabel="clips")
        _legend_above(axes)
        return _to_svg(figure, f"scores-{index}", label)


def loss_group(name: str) -> str:
    return next((group for group, part in LOSS_GROUPS if part in name), "other")


def _grouped(steps: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    sums = {group: np.zeros(len(steps)) for group in GROUP_LINES}
    for position, step in enumerate(steps):
        for name, value in (step.get("losses") or {}).items():
            sums[loss_group(name)][position] += value
    return {group: values for group, values in sums.items() if np.any(values > 0)}


def _thin(at: np.ndarray, values: np.ndarray) -> tuple[list[float], list[float]]:
    buckets = np.array_split(np.arange(len(at)), min(len(at), MAX_POINTS))
    return [float(at[bucket].mean()) for bucket in buckets], [float(values[bucket].mean()) for bucket in buckets]


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.4))  # fixed margins: a layout engine would draw every plot twice more
    return figure, figure.add_axes((0.13, 0.14, 0.85, 0.77))


def _log_scale(axes: Axes) -> None:
    """Logarithmic where the lines span more than a decade; a narrower range would be left without ticks."""
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values) or values.max() < 10 * values.min():
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=6,
        frameon=False,
        fontsize=9,
        borderaxespad=0.2,
        handlelength=1.7,
        columnspacing=1.1,
    )


def _to_svg(figure: Figure, prefix: str, label: str) -> Markup:
    """The <svg> element alone. Ids get a prefix, since all plots share one document."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    return Markup(text.replace("<svg ", f'<svg class="plot" role="img" aria-label="{escape(label)}" ', 1))
