"""The page's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sead_ray.evaluation.intervals import Interval
from sead_ray.report.benchmark import Estimate
from sead_ray.report.rounds import RoundRow, is_number
from sead_ray.report.strata import Kind
from sead_ray.report.svg import BLUE, GREEN, GREY, ORANGE, PURPLE, legend_above, new_axes, styled, to_svg

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


def metric_curve(
    rows: list[RoundRow],
    evaluation: dict[str, Any] | None,
    metric: str,
    title: str,
    seeds: Sequence[list[RoundRow]] = (),
    prefix: str = "curve",
) -> Markup | None:
    """Average of `metric` ("l2_m" | "collision_percent") against the share of labelled frames; None without a round.

    With a 95 % interval: over seeds where `seeds` holds the rounds of further runs, else over val clips.
    """
    points = _averages(rows, metric)
    if not points:
        return None
    shared, intervals = _over_seeds([rows, *seeds], metric) if seeds else ({}, {})
    with styled():
        figure, axes = new_axes()
        if shared:
            points = shared
            for line in (rows, *seeds):
                thin = _averages(line, metric)
                axes.plot([100 * x for x, _ in thin.values()], [y for _, y in thin.values()], color=BLUE, alpha=0.25)
        else:
            intervals = {row.round: row.intervals.get(metric, {}).get("avg") for row in rows}
        shares, values = ([point[i] for point in points.values()] for i in (0, 1))
        shares = [100 * share for share in shares]
        axes.errorbar(
            shares, values, yerr=_reach(points, intervals), color=BLUE, marker="o", linewidth=2, capsize=4,
            label=f"planner, mean of {len(seeds) + 1} seeds" if shared else "planner",
        )  # fmt: skip
        for name, (label, dashes) in BASELINES.items():
            value = (evaluation or {}).get(name, {}).get(metric, {}).get("avg")
            if is_number(value):
                axes.axhline(value, color=GREY, linestyle=dashes, linewidth=1.6, label=label)
        axes.set(xlabel="share of labelled frames (%)", ylabel=title)
        axes.set_xlim(0, 1.1 * max(shares) or 1)
        axes.set_ylim(bottom=0)
        legend_above(axes)
        text = ", ".join(f"{value:.2f} at {share:.1f} %" for share, value in zip(shares, values))
        return to_svg(figure, f"{prefix}-{metric}", f"{title} of the planner: {text}")


def _averages(rows: list[RoundRow], metric: str) -> dict[int, tuple[float, float]]:
    """(share of labelled frames, value) by round, where there is a value."""
    found = {row.round: (row.frames_share, getattr(row, metric).get("avg")) for row in rows}
    return {number: point for number, point in found.items() if is_number(point[1])}


def _over_seeds(
    runs: Sequence[list[RoundRow]], metric: str
) -> tuple[dict[int, tuple[float, float]], dict[int, Interval | None]]:
    """Mean points of the rounds that every run has, and their intervals (Student's t)."""
    lines = [_averages(rows, metric) for rows in runs]
    shared = [number for number in lines[0] if all(number in line for line in lines)]
    means = {number: Estimate.of(line[number][1] for line in lines) for number in shared}
    points = {number: (float(np.mean([line[number][0] for line in lines])), means[number].mean) for number in shared}
    return points, {
        number: (found.mean - found.half_width, found.mean + found.half_width) for number, found in means.items()
    }


def _reach(points: dict[int, tuple[float, float]], intervals: Mapping[int, Interval | None]) -> Any:
    """(2, n) how far each interval reaches below and above its value; None where no round has one."""
    if not any(intervals.get(number) for number in points):
        return None
    ends = [intervals.get(number) or (value, value) for number, (_, value) in points.items()]
    values = [value for _, value in points.values()]
    return [
        [max(value - low, 0.0) for value, (low, _) in zip(values, ends)],
        [max(high - value, 0.0) for value, (_, high) in zip(values, ends)],
    ]


def representation(kinds: Sequence[Kind]) -> Markup | None:
    """How much more, or less, of each kind was bought than the pool holds; None before a purchase."""
    known = [kind for kind in kinds if kind.ratio is not None]
    if not known:
        return None
    with styled():
        figure = Figure(figsize=(7.2, 0.5 + 0.24 * len(known)))
        height = 0.24 * len(known) / (0.5 + 0.24 * len(known))
        names = [f"{kind.group}: {kind.name}" for kind in known]
        left = min(0.5, 0.03 + 0.0105 * max(map(len, names)))  # 9 pt on 7.2 inches: about a hundredth a letter
        axes = figure.add_axes((left, 1 - height, 0.98 - left, height - 0.01))
        floor = 0.25 * min([kind.ratio for kind in known if kind.ratio] or [1.0])
        ratios = np.array([kind.ratio or 0.0 for kind in known])
        at, colors = np.arange(len(known))[::-1], [ORANGE if ratio < 1 else BLUE for ratio in ratios]
        bars = axes.barh(at, np.log2(np.maximum(ratios, floor)), color=colors, height=0.7)
        for bar, ratio in zip(bars, ratios):
            bar.set_hatch("///" if ratio < 1 else "")
            bar.set_edgecolor("white")
        axes.axvline(0, color=GREY, linewidth=1.2)
        axes.set_yticks(at, names, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:g}×"))
        axes.grid(axis="y", visible=False)
        axes.set_ylim(-0.6, len(known) - 0.4)
        most = max(known, key=lambda kind: kind.ratio or 0.0)
        label = f"Share of what was bought over share of the pool; the largest is of {most.name}, {most.ratio:.2f}"
        return to_svg(figure, "representation", label)


def loss_curve(index: int, steps: list[dict[str, Any]]) -> Markup | None:
    """Total loss and its groups over a round's steps; None where nothing was logged."""
    if not steps:
        return None
    at = np.array([step["step"] for step in steps], float)
    with styled():
        figure, axes = new_axes()
        total = np.array([step["loss"] for step in steps], float)
        axes.plot(*_thin(at, total), color="#111111", linewidth=2.2, label="total")
        for name, values in _grouped(steps).items():
            color, dashes = GROUP_LINES[name]
            axes.plot(*_thin(at, values), color=color, linestyle=dashes, linewidth=1.6, label=name)
        axes.set(xlabel="step", ylabel="loss")
        _log_scale(axes)
        legend_above(axes)
        label = f"Loss of round {index}: total from {total[0]:.3g} to {total[-1]:.3g} over {len(steps)} logged steps"
        return to_svg(figure, f"loss-{index}", label)


def score_histogram(index: int, scores: dict[str, float], selected: set[str], cut: float | None) -> Markup | None:
    """Histogram of the pool's scores, the selected clips hatched, and `cut`, the lowest score that was taken."""
    finite = {token: value for token, value in scores.items() if is_number(value)}
    if not finite:
        return None
    taken = np.array([value for token, value in sorted(finite.items()) if token in selected])
    rest = np.array([value for token, value in sorted(finite.items()) if token not in selected])
    with styled():
        figure, axes = new_axes()
        edges = np.histogram_bin_edges(list(finite.values()), bins=min(30, max(5, int(2 * len(finite) ** 0.5))))
        style: dict[str, Any] = {"bins": edges.tolist(), "stacked": True, "edgecolor": "white"}
        labels, colors = ["not selected", "selected"], ["#9ecae9", BLUE]
        # Any: two samples give a list of bar containers; the stubs also allow what other histtypes give.
        bars: Any = axes.hist([rest, taken], label=labels, color=colors, **style)[2]
        for bar in bars[1]:
            bar.set_hatch("///")
        label = f"Scores of {len(finite)} clips in round {index}, {len(taken)} selected"
        if cut is not None:
            axes.axvline(cut, color=ORANGE, linestyle="--", linewidth=2, label=f"cut {cut:.3g}")
            label += f", lowest selected score {cut:.3g}"
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="score", ylabel="clips")
        legend_above(axes)
        return to_svg(figure, f"scores-{index}", label)


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
