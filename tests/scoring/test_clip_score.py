from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.config import ScoreConfig
from sead_ray.records import ClipScore
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.scoring.clip_score import failed_score, score_clip
from sead_ray.scoring.features import FrameFeatures

CONFIG = ScoreConfig()
STILL = (np.zeros((6, 2)), np.ones(6))


def frames(distances_m: list[float]) -> list[FrameFeatures]:
    """Agents move by 1 and the map by 2 in each transition; the plan drives 1 m a step."""
    path = np.stack([np.zeros(6), np.arange(1, 7)], axis=1).astype(np.float32)
    grid = np.arange(12, dtype=np.float32).reshape(4, 3)
    axis = np.array([0, 1, 0], np.float32)
    return [
        FrameFeatures(grid + t * axis, grid + 2 * t * axis, d, 0.5 + t / 100, path, np.full(2, float(t)), 0.1 * t, 1.0)
        for t, d in enumerate(distances_m)
    ]


def score(clip_frames: list[FrameFeatures], interval_s: float = 0.5, **kwargs) -> ClipScore:
    stamps = [round(1e15 + t * interval_s * 1e6) for t in range(len(clip_frames))]
    futures = kwargs.pop("futures", [STILL] * len(clip_frames))
    return score_clip("clip", kwargs.pop("stamps", stamps), clip_frames, futures, "model", kwargs.pop("config", CONFIG))


def test_a_clip_by_hand() -> None:
    result = score(frames([9.0, 4.0, 4.9, float("inf"), 1.0]))
    assert (result.status, result.reason, result.n_frames) == ("ok", "", 5)
    assert result.dt_s == pytest.approx(0.5)
    assert result.shift_agents == pytest.approx([1] * 4)
    assert result.shift_map == pytest.approx([2] * 4)
    assert (result.n_transitions, result.shift_sum, result.shift_mean) == (4, pytest.approx(12), pytest.approx(3))
    assert result.min_distance_m == [9.0, 4.0, 4.9, float("inf"), 1.0]
    assert result.is_key == [False, True, True, False, True]
    assert (result.key_start, result.key_length) == (1, 2)
    assert result.max_confidence == pytest.approx(0.54)
    assert result.embedding == pytest.approx([2, 2])
    assert result.displacement_error_m == pytest.approx(3.5)
    assert (result.soft_collision, result.agent_uncertainty) == (pytest.approx(0.2), pytest.approx(1))


def test_displacement_error_counts_recorded_steps_only() -> None:
    first_two = (np.tile([0.0, 1.0], (6, 1)), np.ones(6))  # as planned: error 0
    one_step = (np.zeros((6, 2)), np.array([1, 0, 0, 0, 0, 0]))  # 1 m off in its only step
    assert score(frames([1, 1]), futures=[first_two, one_step]).displacement_error_m == pytest.approx(1 / 7)
    nothing = (np.zeros((6, 2)), np.zeros(6))
    assert score(frames([1, 1]), futures=[nothing, nothing]).displacement_error_m == 0


def test_a_score_fits_its_parquet_schema() -> None:
    rows = [score(frames([1, 9])).to_row(), failed_score("b", "model", "no image").to_row()]
    assert pa.Table.from_pylist(rows, schema=SCORE_SCHEMA).to_pylist()[1]["reason"] == "no image"


def test_failed_score_is_empty() -> None:
    failed = failed_score("clip", "model", "why", 3)
    assert (failed.status, failed.reason, failed.n_frames, failed.shift_agents) == ("failed", "why", 3, [])


@pytest.mark.parametrize("n_frames", [0, 1])
def test_fewer_than_two_frames_fail(n_frames: int) -> None:
    result = score(frames([1.0] * n_frames))
    assert result.status == "failed"
    assert f"clip has {n_frames} frame(s)" in result.reason


@pytest.mark.parametrize("field", ["agents", "map_instances", "embedding", "planned_path_m"])
def test_non_finite_features_fail_and_name_the_frame(field: str) -> None:
    clip_frames = frames([1.0, 1.0, 1.0])
    bad = getattr(clip_frames[2], field).copy()
    bad.flat[0] = np.nan
    clip_frames[2] = replace(clip_frames[2], **{field: bad})
    result = score(clip_frames)
    assert result.status == "failed"
    assert "non-finite" in result.reason
    assert "frame 2" in result.reason


def test_nan_distance_fails_but_infinite_does_not() -> None:
    assert score(frames([float("inf"), float("inf")])).status == "ok"
    assert score(frames([1.0, float("nan")])).status == "failed"


def test_time_stamps_that_do_not_grow_fail() -> None:
    result = score(frames([1, 1, 1]), stamps=[10**15, 10**15 + 500_000, 10**15 + 500_000])
    assert result.status == "failed"
    assert "after frame 1" in result.reason


def test_a_clip_without_a_nominal_transition_fails() -> None:
    result = score(frames([1, 1, 1]), interval_s=2.0)
    assert result.status == "failed"
    assert "0.5 s apart" in result.reason
    assert "2.000 s" in result.reason


def test_lengths_that_differ_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="1 recorded futures"):
        score(frames([1, 1]), futures=[STILL])
