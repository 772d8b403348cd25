"""The paper's incremental selection: the largest feature shifts, of which only the key frames are bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import ClipScore, Selection
from sead_ray.selection.pool import PoolClip, sorted_pool


def select(
    pool: Sequence[PoolClip],
    scores: Mapping[str, ClipScore] | None,
    n_clips: int,
    rng: np.random.Generator,
    config: SelectConfig,
    round: int,
    rank_by: Literal["sum", "mean"] = "sum",
) -> list[Selection]:
    """`Strategy` (Algorithm 1, lines 8 to 13). Needs a score for every clip of the pool, all of one model.

    Failed clips are never selected. Of equal shifts the smaller token comes first. A row's `rank` is its place among
    all scored clips, which with `next_ranked` may leave numbers out.
    """
    ordered = sorted_pool(pool, n_clips)
    scored = _scored(ordered, scores)
    if n_clips > len(scored):
        raise InputError(
            f"The round asks for {n_clips} clips, but only {len(scored)} of {len(ordered)} clips of the pool can be "
            f"selected ({len(ordered) - len(scored)} failed in scoring)."
        )
    ranked = sorted(scored, key=lambda pair: (-_shift(pair[1], rank_by), pair[0].clip_token))
    chosen = list(enumerate(ranked, 1))
    if config.key_frames and config.without_key_frame == "next_ranked":
        chosen = [(rank, (clip, score)) for rank, (clip, score) in chosen if score.key_length]
        if n_clips > len(chosen):
            raise InputError(
                f"The round asks for {n_clips} clips, but only {len(chosen)} of {len(ranked)} scored clips have a key "
                "frame and select.without_key_frame is next_ranked: use drop or keep_clip, or train for longer."
            )
    return [_row(clip, score, round, rank, len(ranked), rank_by, config) for rank, (clip, score) in chosen[:n_clips]]


def _scored(ordered: Sequence[PoolClip], scores: Mapping[str, ClipScore] | None) -> list[tuple[PoolClip, ClipScore]]:
    """Clips that were scored without failure, with their scores; checks that they belong together."""
    if not scores:
        raise InputError("The strategy sead needs scores, but there are none: score the pool first.")
    pairs = []
    for clip in ordered:
        if clip.clip_token not in scores:
            raise InputError(f"Clip {clip.clip_token} of the pool has no score: score the pool again.")
        pairs.append((clip, scores[clip.clip_token]))
    versions = sorted({score.model_version for _, score in pairs})
    if len(versions) > 1:
        raise InputError(f"The scores are of different models ({', '.join(versions)}) and may not be mixed.")
    scored = [(clip, score) for clip, score in pairs if score.status == "ok"]
    for clip, score in scored:
        if score.n_frames != clip.n_frames:
            raise InputError(
                f"Clip {clip.clip_token} has {clip.n_frames} frames, but its score is of {score.n_frames}: "
                "score it again."
            )
    return scored


def _shift(score: ClipScore, rank_by: Literal["sum", "mean"]) -> float:
    return score.shift_sum if rank_by == "sum" else score.shift_mean


def _row(
    clip: PoolClip,
    score: ClipScore,
    round: int,
    rank: int,
    n_ranked: int,
    rank_by: Literal["sum", "mean"],
    config: SelectConfig,
) -> Selection:
    shift = _shift(score, rank_by)
    start, stop, what = _bought_frames(clip, score, config)
    reason = f"Feature shift ({rank_by}) {shift:.4g} ranks {rank} of {n_ranked}; {what}."
    return Selection(round, clip.clip_token, start, stop, rank, shift, clip.stratum, reason, stop - start)


def _bought_frames(clip: PoolClip, score: ClipScore, config: SelectConfig) -> tuple[int, int, str]:
    """Frames [start, stop) to annotate, and why those."""
    if not config.key_frames:
        return 0, clip.n_frames, "the whole clip is bought"
    if score.key_length:
        start, stop = score.key_start, score.key_start + score.key_length
        return start, stop, f"frames {start} to {stop - 1} of {clip.n_frames} are its longest run of key frames"
    if config.without_key_frame == "keep_clip":
        return 0, clip.n_frames, "it has no key frame and is bought whole (keep_clip)"
    return 0, 0, "it has no key frame and adds none (drop)"
