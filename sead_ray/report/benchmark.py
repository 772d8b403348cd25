"""The paper's Tables 1 to 3 and Figure 5 from many runs: one entry an arm, mean and confidence interval over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from sead_ray.report.rounds import HORIZONS, NOTHING, is_number

CONFIDENCE = 0.95
METRICS = ("l2_m", "collision_percent")
SLICES = ("Day", "Night", "Sunny", "Rainy", "Go Straight", "Turn Left", "Turn Right", "Overtake", "All")

# Arm -> how the paper's tables call it.
TABLE_1 = {
    "complete": "*",
    "random": "Random",
    "coreset": "Coreset",
    "vaal": "VAAL",
    "activeft": "ActiveFT",
    "activead": "ActiveAD",
    "sead": "SEAD",
    "random_frames": "Random (SEAD's frames)",
    "sead_diverse": "SEAD diverse",
    "weighted": "Weighted product",
}
TABLE_2 = {**TABLE_1, "complete": "Complete"}
# ID -> arm, and which of RA (random start), DS (stratified), FS (feature shift), KF (key frames) it has.
TABLE_3 = {
    1: ("random", (True, False, False, False)),
    2: ("stratified_random", (False, True, False, False)),
    3: ("sead_whole_clips", (False, True, True, False)),
    4: ("sead", (False, True, True, True)),
}
FIGURE_5 = {"random": "Random", "sead_bev": "BEV", "sead_agents": "Agents", "sead_maps": "Map", "sead": "A&M"}
STARTS_ELSEWHERE = ("coreset", "vaal", "random_frames")  # their first batch is Random's: no row of their own at 10 %


@dataclass(frozen=True)
class CellRound:
    """One round of one run.

    Attributes:
        arm, seed, round: which; percent: clips (or frames) bought so far of the pool's, as the budget counts them.
        frames_percent: labelled frames of the pool's; l2_m, collision_percent: by horizon.
        slices: Table 2's columns: {"l2_avg_m", "collision_avg_percent"}.
    """

    arm: str
    seed: int
    round: int
    percent: float
    frames_percent: float
    l2_m: dict[str, float]
    collision_percent: dict[str, float]
    slices: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds and half the width of its 95 % confidence interval (Student's t); NaN from a single seed."""

    mean: float
    half_width: float
    n: int

    @classmethod
    def of(cls, values: Iterable[Any]) -> Estimate:
        known = np.array([value for value in values if is_number(value)], float)
        if not len(known):
            return cls(float("nan"), float("nan"), 0)
        if len(known) == 1:
            return cls(float(known[0]), float("nan"), 1)
        error = known.std(ddof=1) / len(known) ** 0.5
        half = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(known) - 1) * error)
        return cls(float(known.mean()), half, len(known))

    def __str__(self) -> str:
        if not self.n:
            return NOTHING
        return f"{self.mean:.2f} ± {self.half_width:.2f}" if is_number(self.half_width) else f"{self.mean:.2f}"


Row = dict[str, Any]


def table_1(cells: Sequence[CellRound]) -> list[Row]:
    """Percent x method: L2 and collision rate at 1, 2, 3 s and their average."""
    rows = []
    for percent in sorted({cell.percent for cell in cells}, key=lambda value: (value != 100, value)):
        for arm, name in TABLE_1.items():
            found = [cell for cell in cells if cell.arm == arm and cell.percent == percent]
            if not found or (arm in STARTS_ELSEWHERE and found[0].round == 0):
                continue
            row: Row = {"percent": percent, "method": name, "arm": arm, "n_seeds": len(found)}
            row["frames_percent"] = float(np.mean([cell.frames_percent for cell in found]))
            for metric in METRICS:
                for horizon in HORIZONS:
                    _put(row, f"{metric}_{horizon}", (getattr(cell, metric).get(horizon) for cell in found))
            rows.append(row)
    return rows


def table_2(cells: Sequence[CellRound]) -> list[Row]:
    """Method x slice at the last budget: average L2 and average collision rate."""
    rows = []
    for arm, name in TABLE_2.items():
        found = _last_round(cells, arm)
        if not found:
            continue
        row: Row = {"method": name, "arm": arm, "n_seeds": len(found), "percent": found[0].percent}
        for column in SLICES:
            key = column.lower().replace(" ", "_")
            for metric in ("l2_avg_m", "collision_avg_percent"):
                _put(row, f"{key}_{metric}", (cell.slices.get(column, {}).get(metric) for cell in found))
        rows.append(row)
    return rows


def table_3(cells: Sequence[CellRound]) -> list[Row]:
    """The ablation of start, feature shift and key frames: average L2 and collision rate at each budget."""
    rows = []
    for number, (arm, (ra, ds, fs, kf)) in TABLE_3.items():
        for percent in _budgets(cells, arm):
            found = [cell for cell in cells if cell.arm == arm and cell.percent == percent]
            row: Row = {"id": number, "arm": arm, "RA": ra, "DS": ds, "FS": fs, "KF": kf, "percent": percent}
            row["n_seeds"] = len(found)
            rows.append(_averages(row, found))
    return rows


def figure_5(cells: Sequence[CellRound]) -> list[Row]:
    """Ways to compute the feature shift: average L2 and collision rate at each budget."""
    rows = []
    for arm, name in FIGURE_5.items():
        for percent in _budgets(cells, arm):
            found = [cell for cell in cells if cell.arm == arm and cell.percent == percent]
            rows.append(_averages({"shift": name, "arm": arm, "percent": percent, "n_seeds": len(found)}, found))
    return rows


def estimate(row: Row, name: str) -> Estimate:
    """The number that a table's row holds under `name`."""
    return Estimate(row[name], row[f"{name}_ci95"], row[f"{name}_n"])


def _averages(row: Row, found: Sequence[CellRound]) -> Row:
    for metric in METRICS:
        _put(row, f"{metric}_avg", (getattr(cell, metric).get("avg") for cell in found))
    return row


def _put(row: Row, name: str, values: Iterable[Any]) -> None:
    found = Estimate.of(values)
    row[name], row[f"{name}_ci95"], row[f"{name}_n"] = found.mean, found.half_width, found.n


def _budgets(cells: Sequence[CellRound], arm: str) -> list[float]:
    return sorted({cell.percent for cell in cells if cell.arm == arm})


def _last_round(cells: Sequence[CellRound], arm: str) -> list[CellRound]:
    percent = max(_budgets(cells, arm), default=None)
    return [cell for cell in cells if cell.arm == arm and cell.percent == percent]
