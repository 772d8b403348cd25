"""The ablation of the shift's reduction: numbers of one clip by hand, the table, the rule."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from sead_ray.config import ScoreConfig
from sead_ray.scoring.ablation import AblationRow, ablation_table, clip_reductions, decide, markdown, reductions
from sead_ray.scoring.shift import earth_movers_distance

STAMPS = [0, 500_000, 1_000_000]


def test_reductions_stop_at_the_channels() -> None:
    assert [r.name for r in reductions(16)] == [
        "unreduced",
        *(f"channels, k = {k}" for k in (1, 4, 16)),
        *(f"queries, k = {k}" for k in (1, 4, 16, 64, 256)),
    ]


def test_one_clip_under_every_reduction() -> None:
    rng = np.random.default_rng(0)
    agents = rng.normal(size=(3, 12, 8)).astype(np.float32)
    maps = rng.normal(size=(3, 5, 8)).astype(np.float32)
    n, sums, seconds = clip_reductions(agents, maps, STAMPS, ScoreConfig())
    assert n == 2
    names = [r.name for r in reductions(8)]
    assert len(sums) == len(seconds) == len(names)
    found = dict(zip(names, sums))
    pairs = [(queries[t + 1], queries[t]) for queries in (agents, maps) for t in (0, 1)]
    assert found["unreduced"] == pytest.approx(sum(earth_movers_distance(a, b) for a, b in pairs), rel=1e-6)
    by_two = sum(earth_movers_distance(a.reshape(-1, 4, 2).mean(2), b.reshape(-1, 4, 2).mean(2)) for a, b in pairs)
    assert found["channels, k = 4"] == pytest.approx(by_two, rel=1e-5)
    means = sum(float(np.linalg.norm(a.mean(0) - b.mean(0))) for a, b in pairs)
    assert found["queries, k = 1"] == pytest.approx(means, rel=1e-5)
    assert found["queries, k = 256"] == pytest.approx(found["unreduced"], rel=1e-6)


def test_a_mean_over_layer_normed_channels_carries_nothing() -> None:
    """What the issue warns of: every query of a layer-normed feature has the same mean."""
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(3, 20, 64))
    normed = ((queries - queries.mean(2, keepdims=True)) / queries.std(2, keepdims=True)).astype(np.float32)
    _, sums, _ = clip_reductions(normed, normed[:, :9], STAMPS, ScoreConfig())
    found = dict(zip([r.name for r in reductions(64)], sums))
    assert found["channels, k = 1"] < 1e-5 * found["unreduced"]


def table_of(correlations: dict[int, float], n_clips: int = 500) -> list[AblationRow]:
    rows = [AblationRow("unreduced", "channels", None, n_clips, 9.0, 1.0, 1.0)]
    return rows + [
        AblationRow(f"channels, k = {k}", "channels", k, n_clips, 1.0, r, 0.1) for k, r in correlations.items()
    ]


def test_the_rule_takes_the_smallest_k_that_agrees() -> None:
    answer = decide(table_of({1: 0.2, 4: 0.94, 16: 0.951, 64: 0.99}))
    assert answer == "score.reduce_to 16: the smallest k with Spearman >= 0.95 on 500 clips."
    assert "provisional: the rule asks for 500 clips" in decide(table_of({4: 0.99}, 499))
    assert decide(table_of({4: 0.5})).startswith("No k reaches")
    assert decide(table_of({4: float("nan")})).startswith("No k reaches")


def test_the_default_is_what_the_rule_says_of_the_recorded_table() -> None:
    text = (Path(__file__).parents[2] / "docs/benchmarks/ablate_shift.md").read_text()
    found = re.findall(r"^\| channels, k = (\d+) \| [\d.]+ \| ([\d.]+) \|", text, re.MULTILINE)
    assert [int(k) for k, _ in found] == [1, 4, 16, 64]
    answer = decide(table_of({int(k): float(r) for k, r in found}, 576))
    assert answer in text
    assert answer.startswith(f"score.reduce_to {ScoreConfig().reduce_to}: ")


def test_the_table_by_hand() -> None:
    names = [r.name for r in reductions(4)]
    sums = np.tile(np.array([[1.0], [2.0], [4.0]]), len(names))
    sums[:, 1] = [3.0, 2.0, 1.0]
    rows = ablation_table(4, np.array([2, 2, 6]), sums, np.full_like(sums, 0.05))
    assert [row.reduction for row in rows] == names
    assert [row.spearman for row in rows[:3]] == pytest.approx([1, -1, 1])
    assert rows[0].ms_per_frame == pytest.approx(15)
    assert rows[0].mean_shift == pytest.approx(0.7)
    assert "| channels, k = 1 | 15.00 | -1.000 | 0.6 |" in markdown(rows)
