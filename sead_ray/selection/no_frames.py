"""Why a round would buy no frame at all."""

from __future__ import annotations

from collections.abc import Iterable

from sead_ray.config import ScoreConfig
from sead_ray.records import ClipScore


def no_frames_reason(scores: Iterable[ClipScore], config: ScoreConfig) -> str:
    """One sentence for a round whose selected clips hold no key frame: what was seen, and what to change.

    Args:
        scores: of the round's pool; read once, none is kept.
        config: the thresholds they were scored with.
    """
    n_clips = n_scored = n_without = 0
    confidence, distance_m = 0.0, float("inf")
    for score in scores:
        n_clips += 1
        if score.status == "ok":
            n_scored += 1
            n_without += not score.key_length
            confidence = max(confidence, score.max_confidence)
            distance_m = min([distance_m, *score.min_distance_m])
    if not n_scored:
        return f"The round would buy no frame: none of {n_clips} clips could be scored; see their reasons."
    seen = (
        f"The round would buy no frame: {n_without} of {n_scored} scored clips ({n_without / n_scored:.0%}) have no "
        f"key frame, and the highest confidence of a road participant is {confidence:.2f}"
    )
    if confidence < config.theta_confidence:
        return (
            f"{seen}, below score.theta_confidence {config.theta_confidence:g}: the model is probably under-trained, "
            "so train for longer (train.epochs, train.min_steps), or set select.without_key_frame to keep_clip."
        )
    if n_without == n_scored:
        return (
            f"{seen}, but the nearest confident one is {distance_m:.1f} m away, not within score.theta_distance_m "
            f"{config.theta_distance_m:g}: train for longer, raise that distance, or set select.without_key_frame to "
            "keep_clip."
        )
    return (
        f"{seen}; the clips with the largest feature shift are among those: train for longer, or set "
        "select.without_key_frame to next_ranked or keep_clip."
    )
