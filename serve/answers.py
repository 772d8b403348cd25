"""Scores as clients get them."""

from __future__ import annotations

import math
from typing import Any

from sead_ray.records import ClipScore
from sead_ray.stages import serve_metrics
from sead_ray.wire import KeyFrames, ScoreAnswer
from serve.decode import CanSource
from serve.models import Served
from serve.timing import Split


def score_answer(score: ClipScore, served: Served, budget: float, can_bus: CanSource, split: Split) -> ScoreAnswer:
    status = "ok" if score.status == "ok" else "failed"
    answer = ScoreAnswer(status=status, **clip_fields(score, served, budget, can_bus, score.n_frames, split))
    serve_metrics.count("sead_serve_decisions_total", decision=answer.decision or "none")
    for part, seconds in answer.seconds.model_dump().items():
        serve_metrics.observe("sead_serve_part_seconds", seconds, part=part)
    return answer


def clip_fields(
    score: ClipScore, served: Served, budget: float, can_bus: CanSource, n_frames: int, split: Split
) -> dict[str, Any]:
    """What every answer says of a clip; JSON has no infinity, so that nobody near is null."""
    with split.part("answer"):
        fields = _fields(score, served, budget)
    return {**fields, "n_frames": n_frames, "can_bus": can_bus, "seconds": split.seconds()}


def _fields(score: ClipScore, served: Served, budget: float) -> dict[str, Any]:
    rank_by = served.info.score.rank_by
    standing = None
    if served.calibration is not None and score.status == "ok":
        standing = served.calibration.standing(score, budget, rank_by)
    ranked = score.shift_mean if rank_by == "mean" else score.shift_sum
    return {
        "reason": score.reason,
        "clip_token": score.clip_token,
        "model_version": score.model_version,
        "score": ranked if score.status == "ok" else None,
        "rank_by": rank_by,
        "shift_agents": score.shift_agents,
        "shift_map": score.shift_map,
        "min_distance_m": [value if math.isfinite(value) else None for value in score.min_distance_m],
        "is_key": score.is_key,
        "key_frames": KeyFrames(start=score.key_start, length=score.key_length),
        "percentile": standing and round(standing.percentile, 2),
        "decision": standing and standing.decision,
        "compared_by": standing and standing.compared_by,
        "budget": budget,
    }
