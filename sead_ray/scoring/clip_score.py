"""One clip's frames to one `ClipScore`. A clip that cannot be scored is recorded with its reason, never dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sead_ray.config import ScoreConfig
from sead_ray.records import ClipScore
from sead_ray.scoring.features import FrameFeatures
from sead_ray.scoring.key_frames import key_frames, longest_run
from sead_ray.scoring.shift import ClipShifts, clip_shifts

# Per-step offsets (6, 2) of the lidar origin in the frame's lidar frame, and their mask (6,): from ego poses, free.
RecordedFuture = tuple[ArrayLike, ArrayLike]


def score_clip(
    clip_token: str,
    timestamps_us: Sequence[int],
    frames: Sequence[FrameFeatures],
    recorded_futures: Sequence[RecordedFuture],
    model_version: str,
    config: ScoreConfig,
    shifts: ClipShifts | None = None,
) -> ClipScore:
    """Feature shift, key frames and ActiveAD's terms of one clip.

    Args:
        clip_token: names the clip.
        timestamps_us: T time stamps of LIDAR_TOP.
        frames: T frames' features.
        recorded_futures: T recorded ego futures.
        model_version: names the model; scores of different models are never compared.
        config: thresholds and intervals.
        shifts: of these frames, where they are known already (`extended_shifts`).

    Returns:
        `status` "failed" with a reason for fewer than two frames, time stamps that do not grow, a model that gave
        NaN, or a clip without one transition of the nominal interval.
    """
    if not len(timestamps_us) == len(frames) == len(recorded_futures):
        raise ValueError(
            f"clip {clip_token}: {len(timestamps_us)} time stamps, {len(frames)} frames, "
            f"{len(recorded_futures)} recorded futures"
        )
    reason = _why_not_scorable(clip_token, timestamps_us, frames)
    if reason:
        return failed_score(clip_token, model_version, reason, len(frames))
    dt_s = float(np.median(np.diff(np.asarray(timestamps_us, np.int64)))) * 1e-6
    shifts = shifts or clip_shifts(frames, timestamps_us, config)
    if not shifts.n_transitions:
        reason = (
            f"Clip {clip_token} has no two frames about {config.nominal_interval_s:g} s apart after "
            f"{config.warmup_frames} warm-up transitions (median interval {dt_s:.3f} s, {len(frames)} frames)."
        )
        return failed_score(clip_token, model_version, reason, len(frames))
    return _scored(clip_token, model_version, frames, recorded_futures, shifts, dt_s, config)


def failed_score(clip_token: str, model_version: str, reason: str, n_frames: int = 0) -> ClipScore:
    """The record of a clip that could not be scored."""
    return ClipScore(clip_token, model_version, status="failed", reason=reason, n_frames=n_frames)


def displacement_error_m(frames: Sequence[FrameFeatures], recorded_futures: Sequence[RecordedFuture]) -> float:
    """ActiveAD's displacement error: mean distance in metres between planned and recorded positions over all frames
    and the steps whose mask is 1; 0 where no step was recorded."""
    errors = [np.zeros(0)]
    for frame, (offsets_m, mask) in zip(frames, recorded_futures):
        recorded_m = np.cumsum(np.asarray(offsets_m, np.float64), axis=0)
        distance_m = np.linalg.norm(frame.planned_path_m - recorded_m, axis=-1)
        errors.append(distance_m[np.asarray(mask) > 0])
    valid = np.concatenate(errors)
    return float(valid.mean()) if len(valid) else 0.0


def _scored(
    clip_token: str,
    model_version: str,
    frames: Sequence[FrameFeatures],
    recorded_futures: Sequence[RecordedFuture],
    shifts: ClipShifts,
    dt_s: float,
    config: ScoreConfig,
) -> ClipScore:
    """The record of a clip that has at least one transition."""
    distances_m = [frame.nearest_distance_m for frame in frames]
    is_key = key_frames(distances_m, config.theta_distance_m)
    key_start, key_length = longest_run(is_key)
    return ClipScore(
        clip_token=clip_token,
        model_version=model_version,
        status="ok",
        n_frames=len(frames),
        dt_s=dt_s,
        shift_agents=shifts.agents.tolist(),
        shift_map=shifts.map_instances.tolist(),
        n_transitions=shifts.n_transitions,
        shift_sum=shifts.total,
        shift_mean=shifts.mean,
        min_distance_m=distances_m,
        is_key=is_key.tolist(),
        key_start=key_start,
        key_length=key_length,
        max_confidence=max(frame.max_confidence for frame in frames),
        embedding=_mean_embedding(frames),
        displacement_error_m=displacement_error_m(frames, recorded_futures),
        soft_collision=float(np.mean([frame.soft_collision for frame in frames])),
        agent_uncertainty=float(np.mean([frame.agent_uncertainty for frame in frames])),
        shift_agents_sum=shifts.agents_total,
        shift_map_sum=shifts.map_total,
        shift_bev=[] if shifts.bev is None else shifts.bev.tolist(),
        shift_bev_sum=shifts.bev_total,
        plan_m=np.asarray(frames[key_start].planned_path_m, np.float32).reshape(-1).tolist(),
    )


def _mean_embedding(frames: Sequence[FrameFeatures]) -> list[float]:
    stacked = np.stack([frame.embedding for frame in frames])
    return [float(value) for value in stacked.mean(axis=0, dtype=np.float64).astype(np.float32)]


def _why_not_scorable(clip_token: str, timestamps_us: Sequence[int], frames: Sequence[FrameFeatures]) -> str:
    if len(frames) < 2:
        return f"Clip {clip_token} has {len(frames)} frame(s), but a feature shift needs two."
    intervals_us = np.diff(np.asarray(timestamps_us, np.int64))
    if (intervals_us <= 0).any():
        return f"Clip {clip_token} has time stamps that do not grow after frame {int(np.argmax(intervals_us <= 0))}."
    broken = [index for index, frame in enumerate(frames) if not frame.is_finite()]
    if broken:
        return (
            f"Clip {clip_token} has non-finite features in {len(broken)} of {len(frames)} frames, first in frame "
            f"{broken[0]}."
        )
    return ""
