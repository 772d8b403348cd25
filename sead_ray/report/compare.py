"""Two runs beside each other: what they bought, how they drive, and how sure the difference is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sead_ray.evaluation.intervals import Interval, paired_differences
from sead_ray.report.rounds import RoundRow, evaluation_of, is_number, selection_rows
from sead_ray.report.svg import BLUE, ORANGE, legend_above, new_axes, styled, to_svg
from sead_ray.storage import Store

METRICS = {"l2_m": "average L2 (m)", "collision_percent": "collision rate (%)"}


@dataclass(frozen=True)
class RoundPair:
    """One round of both; None where a run has no such round.

    Attributes:
        difference: second minus first, by metric, of the averages; interval: its 95 % interval over the same val clips.
    """

    round: int
    first: RoundRow | None
    second: RoundRow | None
    difference: dict[str, float]
    interval: dict[str, Interval]

    def verdict(self, metric: str) -> str:
        """In words; empty where no interval is known."""
        if metric not in self.interval:
            return ""
        low, high = self.interval[metric]
        return "second is better" if high < 0 else "first is better" if low > 0 else "no clear difference"


def round_pairs(first: Store, second: Store, rows: tuple[list[RoundRow], list[RoundRow]]) -> list[RoundPair]:
    """By round number, for as long as one of them has rounds."""
    mine, theirs = ({row.round: row for row in found} for found in rows)
    return [_pair(first, second, number, mine.get(number), theirs.get(number)) for number in sorted({*mine, *theirs})]


def _pair(first: Store, second: Store, number: int, mine: RoundRow | None, theirs: RoundRow | None) -> RoundPair:
    difference: dict[str, float] = {}
    interval: dict[str, Interval] = {}
    if mine and theirs:
        for metric in METRICS:
            values = [getattr(row, metric).get("avg") for row in (mine, theirs)]
            if all(is_number(value) for value in values):
                difference[metric] = values[1] - values[0]
        clips = [(evaluation_of(run, number) or {}).get("clips", {}) for run in (first, second)]
        found = paired_differences(clips[1], clips[0])
        interval = {metric: horizons["avg"] for metric, horizons in found.items()}
    return RoundPair(number, mine, theirs, difference, interval)


@dataclass(frozen=True)
class Overlap:
    """Clips that were bought by the end of both runs."""

    n_both: int
    n_first: int
    n_second: int

    @property
    def jaccard(self) -> float | None:
        union = self.n_first + self.n_second - self.n_both
        return self.n_both / union if union else None


def overlap(first: Store, second: Store, rows: tuple[list[RoundRow], list[RoundRow]]) -> Overlap:
    mine, theirs = (
        {purchase["clip_token"] for row in found for purchase in selection_rows(run, row.round)}
        for run, found in zip((first, second), rows)
    )
    return Overlap(len(mine & theirs), len(mine), len(theirs))


def comparison_curve(names: tuple[str, str], rows: tuple[list[RoundRow], list[RoundRow]], metric: str) -> Markup | None:
    """Both runs' averages with their intervals; None where neither is evaluated."""
    with styled():
        figure, axes = new_axes()
        for name, found, color, marker in zip(names, rows, (BLUE, ORANGE), "os"):
            points = [row for row in found if is_number(getattr(row, metric).get("avg"))]
            values = [getattr(row, metric)["avg"] for row in points]
            ends = [row.intervals.get(metric, {}).get("avg", (value, value)) for row, value in zip(points, values)]
            reach = [
                [max(value - low, 0.0) for value, (low, _) in zip(values, ends)],
                [max(high - value, 0.0) for value, (_, high) in zip(values, ends)],
            ]
            shares = [100 * row.frames_share for row in points]
            style: dict[str, Any] = {"color": color, "marker": marker, "linewidth": 2, "capsize": 4}
            if points:
                axes.errorbar(shares, values, yerr=reach, label=name, **style)
        if not axes.has_data():
            return None
        axes.set(xlabel="share of labelled frames (%)", ylabel=METRICS[metric])
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], axes.dataLim.ymax))
        legend_above(axes)
        return to_svg(
            figure, f"compare-{metric}", f"{METRICS[metric]} of {names[0]} and of {names[1]} by labelled frames"
        )


def settings_that_differ(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(dotted key, value of the first, of the second) of two configurations as JSON."""
    mine, theirs = _flat(first), _flat(second)
    return [
        (key, mine.get(key), theirs.get(key)) for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found
