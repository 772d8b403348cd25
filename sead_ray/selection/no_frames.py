"""Why a round would buy no frame at all."""

from __future__ import annotations

from collections.abc import Mapping

from sead_ray.config import ScoreConfig
from sead_ray.records import ClipScore


def no_frames_reason(scores: Mapping[str, ClipScore], config: ScoreConfig) -> str:
    """One sentence for a round whose selected clips hold no key frame: what was seen, and what to change.

    Args:
        scores: of the round's pool, by clip token.
        config: the thresholds they were scored with.
    """
    scored = [score for score in scores.values() if score.status == "ok"]
    if not scored:
        return f"The round would buy no frame: none of {len(scores)} clips could be scored; see their reasons."
    n_without = sum(not score.key_length for score in scored)
    confidence = max(score.max_confidence for score in scored)
    distance_m = min((distance for score in scored for distance in score.min_distance_m), default=float("inf"))
    seen = (
        f"The round would buy no frame: {n_without} of {len(scored)} scored clips ({n_without / len(scored):.0%}) have "
        f"no key frame, and the highest confidence of a road participant is {confidence:.2f}"
    )
    if confidence < config.theta_confidence:
        return (
            f"{seen}, below score.theta_confidence {config.theta_confidence:g}: the model is probably under-trained, "
            "so train for longer (train.epochs, train.min_steps), or set select.without_key_frame to keep_clip."
        )
    if n_without == len(scored):
        return (
            f"{seen}, but the nearest confident one is {distance_m:.1f} m away, not within score.theta_distance_m "
            f"{config.theta_distance_m:g}: train for longer, raise that distance, or set select.without_key_frame to "
            "keep_clip."
        )
    return (
        f"{seen}; the clips with the largest feature shift are among those: train for longer, or set "
        "select.without_key_frame to next_ranked or keep_clip."
    )
