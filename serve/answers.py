"""Scores as clients get them."""

from __future__ import annotations

import math
from typing import Any

from sead_ray.records import ClipScore
from sead_ray.wire import KeyFrames, ModelInfo, ScoreAnswer, Seconds
from serve.decode import CanSource


def score_answer(
    score: ClipScore, info: ModelInfo, can_bus: CanSource, n_frames: int, decode_s: float, model_s: float
) -> ScoreAnswer:
    status = "ok" if score.status == "ok" else "failed"
    return ScoreAnswer(status=status, **clip_fields(score, info, can_bus, n_frames, decode_s, model_s))


def clip_fields(
    score: ClipScore, info: ModelInfo, can_bus: CanSource, n_frames: int, decode_s: float, model_s: float
) -> dict[str, Any]:
    """What every answer says of a clip; JSON has no infinity, so that nobody near is null."""
    ranked = score.shift_mean if info.score.rank_by == "mean" else score.shift_sum
    return {
        "reason": score.reason,
        "clip_token": score.clip_token,
        "model_version": score.model_version,
        "score": ranked if score.status == "ok" else None,
        "rank_by": info.score.rank_by,
        "shift_agents": score.shift_agents,
        "shift_map": score.shift_map,
        "min_distance_m": [value if math.isfinite(value) else None for value in score.min_distance_m],
        "is_key": score.is_key,
        "key_frames": KeyFrames(start=score.key_start, length=score.key_length),
        "n_frames": n_frames,
        "can_bus": can_bus,
        "seconds": Seconds(decode=round(decode_s, 4), model=round(model_s, 4)),
    }
