from __future__ import annotations

from sead_ray.config import ScoreConfig
from sead_ray.records import ClipScore
from sead_ray.selection.no_frames import no_frames_reason

CONFIG = ScoreConfig()


def score(token: str, confidence: float, distance_m: float = float("inf"), key_length: int = 0) -> ClipScore:
    return ClipScore(
        token,
        "v1",
        "ok",
        n_frames=2,
        min_distance_m=[distance_m, 90.0],
        max_confidence=confidence,
        key_length=key_length,
    )


def test_an_under_trained_model_is_named() -> None:
    reason = no_frames_reason([score("a", 0.12), score("b", 0.31)], CONFIG)
    assert "2 of 2 scored clips (100%) have no key frame" in reason
    assert "is 0.31, below score.theta_confidence 0.5" in reason
    assert "under-trained" in reason


def test_a_confident_model_that_sees_nobody_near() -> None:
    reason = no_frames_reason([score("a", 0.9, 7.25), score("b", 0.1)], CONFIG)
    assert "nearest confident one is 7.2 m away, not within score.theta_distance_m 5" in reason
    assert "under-trained" not in reason


def test_key_frames_only_in_clips_that_were_not_selected() -> None:
    reason = no_frames_reason([score("a", 0.9, 2.0, 1), score("b", 0.1), score("c", 0.1)], CONFIG)
    assert "2 of 3 scored clips (67%)" in reason
    assert "next_ranked" in reason


def test_no_clip_was_scored() -> None:
    failed = [ClipScore("a", "v1", "failed", "no image")]
    assert "none of 1 clips could be scored" in no_frames_reason(failed, CONFIG)
