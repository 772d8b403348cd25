from __future__ import annotations

import numpy as np
import pytest

from sead_ray.evaluation.intervals import HORIZONS, clip_summaries, intervals, paired_differences
from sead_ray.evaluation.planning import FramePlanning, summarise


def records(n_clips: int, seed: int = 0, shift_m: float = 0.0) -> list[FramePlanning]:
    """Clips of 1 to 6 frames that differ by more than the frames within them do."""
    rng = np.random.default_rng(seed)
    found = []
    for clip in range(n_clips):
        level_m = rng.uniform(0.2, 3)
        for frame in range(rng.integers(1, 7)):
            steps = tuple(float(level_m + shift_m + rng.normal(0, 0.02)) for _ in range(6))
            hits = tuple(bool(hit) for hit in rng.random(6) < 0.1)
            found.append(FramePlanning(f"c{clip}", f"f{clip}-{frame}", 2, True, steps, hits))
    return found


def test_weighted_by_frames_the_clips_give_back_the_whole():
    rows = records(9)
    clips, whole = clip_summaries(rows), summarise(rows)
    weights = [clip["n_frames"] for clip in clips.values()]
    for metric in ("l2_m", "collision_percent"):
        means = np.average([clip[metric] for clip in clips.values()], axis=0, weights=weights)
        assert means == pytest.approx([whole[metric][name] for name in HORIZONS])


def test_clips_without_a_valid_frame_are_left_out():
    lost = FramePlanning("lost", "f", 2, False, (0.0,) * 6, (False,) * 6)
    assert "lost" not in clip_summaries([*records(3), lost])


def test_an_interval_covers_the_value_and_narrows_with_more_clips():
    widths = []
    for n_clips in (10, 400):
        rows = records(n_clips)
        low, high = intervals(clip_summaries(rows))["l2_m"]["avg"]
        assert low < summarise(rows)["l2_m"]["avg"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_its_coverage_is_about_what_it_says():
    """The mean of the clips' levels is 1.6 m: 95 % intervals of 200 samples shall miss it a few times, not often."""
    truth, hit = 1.6, 0
    for seed in range(200):
        low, high = intervals(clip_summaries(records(60, seed)))["l2_m"]["1s"]
        hit += low <= truth <= high
    assert 0.87 < hit / 200 < 1


def test_pairing_finds_a_difference_that_the_single_intervals_hide():
    before, after = (clip_summaries(records(12, shift_m=shift_m)) for shift_m in (0.0, -0.1))
    low, high = paired_differences(after, before)["l2_m"]["avg"]
    assert low == pytest.approx(-0.1)
    assert high == pytest.approx(-0.1)
    assert intervals(after)["l2_m"]["avg"][1] > intervals(before)["l2_m"]["avg"][0]


def test_too_few_clips_or_other_clips_have_no_interval():
    assert intervals(clip_summaries(records(2))) == {}
    assert paired_differences(clip_summaries(records(5)), clip_summaries(records(6))) == {}


def test_the_same_clips_give_the_same_interval():
    clips = clip_summaries(records(8))
    assert intervals(clips) == intervals(dict(reversed(clips.items())))
