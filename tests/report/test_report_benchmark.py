"""The benchmark's tables from rounds made by hand."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from sead_ray.report.benchmark import (
    SLICES,
    CellRound,
    Estimate,
    estimate,
    figure_5,
    table_1,
    table_2,
    table_3,
)
from sead_ray.report.benchmark_plots import figure
from sead_ray.report.benchmark_text import TITLES, markdown

TABLES = {"table_1": table_1, "table_2": table_2, "table_3": table_3, "figure_5": figure_5}


def cell(arm: str, seed: int, round: int, percent: float, l2: float, rate: float = 0.5) -> CellRound:
    horizons = {"1s": l2 / 2, "2s": l2, "3s": 3 * l2 / 2, "avg": l2}
    rates = dict.fromkeys(horizons, rate)
    slices = {name: {"l2_avg_m": l2 + i, "collision_avg_percent": rate} for i, name in enumerate(SLICES)}
    slices["Night"] = {"l2_avg_m": None, "collision_avg_percent": None}  # an empty slice
    return CellRound(arm, seed, round, percent, percent * 0.8, horizons, rates, slices)


ARMS = ("random", "coreset", "sead", "stratified_random", "sead_whole_clips", "sead_bev", "sead_agents", "sead_maps")
CELLS = [
    cell(arm, seed, round, 10.0 * (round + 1), 1.0 - 0.1 * round - 0.01 * index + 0.1 * seed)
    for index, arm in enumerate(ARMS)
    for seed in range(3)
    for round in range(3)
] + [cell("complete", 0, 0, 100.0, 0.5)]


def test_mean_and_confidence_interval_by_hand() -> None:
    found = Estimate.of([1.0, 2.0, 3.0])
    # deviation 1, error 1 / sqrt(3), Student's t with 2 degrees of freedom at 97.5 %: 4.3027
    assert (found.mean, found.half_width, found.n) == (2.0, pytest.approx(4.3027 / 3**0.5, rel=1e-4), 3)
    assert str(found) == "2.00 ± 2.48"
    assert str(Estimate.of([1.5])) == "1.50"
    assert str(Estimate.of([None, float("nan")])) == "–"


def test_table_1_has_the_papers_rows() -> None:
    rows = table_1(CELLS)
    places = [(row["percent"], row["method"]) for row in rows]
    assert places[0] == (100.0, "*")
    # Coreset begins with Random's first batch: no row of its own at 10 %
    assert places[1:3] == [(10.0, "Random"), (10.0, "SEAD")]
    assert places[3:] == [(p, name) for p in (20.0, 30.0) for name in ("Random", "Coreset", "SEAD")]
    random_at_20 = rows[3]
    assert random_at_20["l2_m_avg"] == pytest.approx(1.0)
    assert random_at_20["l2_m_3s"] == pytest.approx(1.5)
    assert random_at_20["l2_m_avg_ci95"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert random_at_20["frames_percent"] == pytest.approx(16)
    text = markdown("table_1", rows, "vad_nano")
    assert "| vad_nano | 20 % | Coreset | 0.49" in text
    assert "3 seed" in text


def test_table_2_is_of_the_last_budget() -> None:
    rows = {row["method"]: row for row in table_2(CELLS)}
    assert set(rows) == {"Complete", "Random", "Coreset", "SEAD"}
    assert rows["Random"]["percent"] == 30
    assert rows["Random"]["day_l2_avg_m"] == pytest.approx(0.9)
    assert rows["Random"]["all_l2_avg_m"] == pytest.approx(8.9)
    assert math.isnan(rows["Random"]["night_l2_avg_m"])
    assert "| – / – |" in markdown("table_2", list(rows.values()), "")


def test_table_3_marks_the_modules_and_the_change_against_arm_1() -> None:
    rows = table_3(CELLS)
    marks = {row["id"]: (row["RA"], row["DS"], row["FS"], row["KF"]) for row in rows}
    assert marks == {1: (1, 0, 0, 0), 2: (0, 1, 0, 0), 3: (0, 1, 1, 0), 4: (0, 1, 1, 1)}
    lines = markdown("table_3", rows, "").splitlines()
    assert lines[2].startswith("| ID | RA | DS | FS | KF | L2 (m) 10 % | L2 (m) 20 % | L2 (m) 30 % | CR (%) 10 %")
    assert lines[4].startswith("| 1 | ✓ | - | - | - | 1.10 ± 0.25 |")
    assert lines[5].startswith("| 2 | - | ✓ | - | - | 1.07 ± 0.25 (-0.03) |")


def test_figure_5_compares_the_shifts() -> None:
    rows = figure_5(CELLS)
    assert [row["shift"] for row in rows[::3]] == ["Random", "BEV", "Agents", "Map", "A&M"]
    assert str(estimate(rows[0], "l2_m_avg")) == "1.10 ± 0.25"
    assert "| A&M | 1.08" in markdown("figure_5", rows, "")


@pytest.mark.parametrize("name", TITLES)
def test_figures_are_svg_that_depends_on_the_rows_alone(name: str) -> None:
    rows = TABLES[name](CELLS)
    svg = figure(name, rows)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert svg == figure(name, TABLES[name](CELLS))
    assert "average L2 (m)" in svg
    assert {"table_1": "Coreset", "table_2": "Overtake", "table_3": "arm 4", "figure_5": "BEV"}[name] in svg


@pytest.mark.parametrize("name", TITLES)
def test_nothing_is_there_yet(name: str) -> None:
    assert TABLES[name]([]) == []
    assert markdown(name, [], "m").startswith("## ")
    assert "<svg" in figure(name, [])
