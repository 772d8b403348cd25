"""Percentile and decision against a calibration set."""

from __future__ import annotations

import numpy as np
import pytest

from sead_ray.records import ClipScore
from sead_ray.scoring.calibration import Calibration


def score(shift_sum: float, n: int = 10, version: str = "v", status: str = "ok") -> ClipScore:
    token = f"{shift_sum}"
    if status != "ok":
        return ClipScore(token, version, status=status, reason="no", n_frames=n)
    values = {"shift_sum": shift_sum, "shift_mean": shift_sum / n, "n_transitions": n}
    return ClipScore(token, version, status="ok", n_frames=n + 1, **values)


def calibration(*sums: float, lengths: tuple[int, ...] = ()) -> Calibration:
    pairs = zip(sums, lengths or (10,) * len(sums))
    made = Calibration.of("v", [score(value, n) for value, n in pairs])
    assert made is not None
    return made


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.3, 0.5, 1.0])
def test_label_is_at_or_above_the_quantile(budget: float):
    sums = np.random.default_rng(0).uniform(1, 9, 101)
    known = calibration(*sums)
    threshold = float(np.quantile(sums, 1 - budget))
    at, below = known.standing(score(threshold), budget), known.standing(score(np.nextafter(threshold, 0)), budget)
    assert (at.decision, below.decision) == ("label", "skip")
    assert at.threshold == threshold
    chosen = [known.standing(score(value), budget).decision for value in sums].count("label")
    assert chosen == pytest.approx(budget * len(sums), abs=1)


def test_percentile_grows_from_0_to_100():
    known = calibration(*range(1, 11))
    got = [known.standing(score(value), 0.1).percentile for value in (0.5, 1, 5.5, 10, 99)]
    assert got == [0, 10, 50, 100, 100]


def test_clips_of_one_length_are_compared_by_their_sums():
    assert calibration(1, 2, 3).standing(score(2.5), 0.5).compared_by == "sum"
    assert calibration(1, 2, 3).standing(score(2.5), 0.5, rank_by="mean").compared_by == "mean"


def test_other_lengths_are_compared_by_the_mean():
    known = calibration(10, 20, 30)
    long = known.standing(score(40, n=40), 0.5)  # more in sum than any, less per transition than all but one
    assert (long.compared_by, long.decision, long.percentile) == ("mean", "skip", pytest.approx(100 / 3))
    mixed = calibration(10, 20, 60, lengths=(10, 10, 20))
    assert mixed.standing(score(25), 0.5).compared_by == "mean"


def test_failed_clips_do_not_count():
    assert Calibration.of("v", [score(1, status="failed")]) is None
    made = Calibration.of("v", [score(1, status="failed"), score(2)])
    assert made is not None
    assert made.sums.tolist() == [2]


def test_scores_of_another_model_are_never_compared():
    with pytest.raises(ValueError, match="another model"):
        Calibration.of("v", [score(1, version="w")])
    with pytest.raises(ValueError, match="no score of model v"):
        calibration(1, 2).standing(score(1, version="w"), 0.1)
