"""Scoring: the unlabeled pool through the current model, feature shift and key frames of every clip.

The stage keeps its own ledger (`stages.ledger`) below `score_parts/<model version>/`: a restart scores only what it
does not hold; parts of another model are never looked at. When all clips are done the parts become
`scores/scores.parquet`, sorted by clip token, and the folder is published.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.commands import ego_future
from sead_ray.records import ClipScore
from sead_ray.schemas import CLIP_SCHEMA, SCORE_SCHEMA
from sead_ray.scoring.clip_score import failed_score, score_clip
from sead_ray.scoring.features import FrameFeatures, extract_features
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Failure, pipeline_size, run_pipeline
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.cluster import connect
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store

Features = tuple[LoadedClip, list[FrameFeatures]]


def score_pool(
    run: Store,
    config: RunConfig,
    round_number: int,
    model_key: str,
    exclude: set[str],
    labelled: Collection[str] = frozenset(),
) -> None:
    """Scores the pool's clips that are not in `exclude` with the model at `model_key`; publishes round `round_number`'s
    scores. Returns at once where they are published.

    Args:
        labelled: clips bought earlier, scored for their features only: their rows say that they are not selectable.

    Raises:
        InputError: the pool has no clip left, or nothing moved for `score.no_progress_timeout_s`.
    """
    folder = layout.scores(round_number)
    if run.is_published(folder):
        return
    started = time.monotonic()
    score = scoring_config(config)
    version = run.read_json(f"{model_key}/model.json")["model_version"]
    tokens = [token for token in pool_tokens(run) if token not in exclude]
    if not set(tokens) - set(labelled):
        raise InputError(f"Every clip of the pool in {run.path(layout.CLIPS_FILE)} is selected already.")
    ledger = Ledger(run, f"{layout.score_parts(round_number)}/{version}", SCORE_SCHEMA)
    done = ledger.done()
    pending = [token for token in tokens if token not in done]
    connect()
    with Progress(f"score round {round_number}", len(tokens), "clip", done=len(done)) as progress:
        for _ in run_pipeline(
            run,
            config.data.root,
            config.image,
            model_key,
            pending,
            work=partial(_features, config=score),
            finish=partial(_score, ledger=ledger, version=version, config=score),
            size=pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors),
        ):
            progress.advance()
    rows = ledger.rows(tokens)
    for row in rows:
        row["selectable"] = row["clip_token"] not in labelled
    run.write_table(layout.scores_file(round_number), rows, SCORE_SCHEMA)
    run.publish(folder, _facts(rows, version, time.monotonic() - started))
    run.remove(layout.score_parts(round_number))


def scoring_config(config: RunConfig) -> ScoreConfig:
    """`config.score`, with the BEV's shift where the selection ranks by it."""
    wanted = config.select.shift == "bev" or "shift_bev" in config.select.terms
    return config.score.model_copy(update={"bev_shift": True}) if wanted else config.score


def pool_tokens(run: Store) -> list[str]:
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, columns=["clip_token", "split"])
    return [row["clip_token"] for row in rows if row["split"] == "pool"]


def read_scores(run: Store, round_number: int) -> dict[str, ClipScore]:
    """Published scores by clip token."""
    names = [name for name in SCORE_SCHEMA.names if name != "schema_version"]
    rows = run.iter_rows(layout.scores_file(round_number), SCORE_SCHEMA, columns=names)
    return {row["clip_token"]: ClipScore(**row) for row in rows}


def score_loaded_clips(
    model: Any, version: str, clips: Sequence[LoadedClip], device: str, config: ScoreConfig
) -> list[ClipScore]:
    """Scores decoded clips in this process: the same arithmetic as the pool's, for the service."""
    features = _features(model, version, clips, device, config)
    return [_clip_score(clip, frames, version, config) for clip, frames in features]


def _features(
    model: Any, _version: str, clips: Sequence[LoadedClip], device: str, config: ScoreConfig
) -> list[tuple[Any, list[FrameFeatures]]]:
    """Reduced features of every frame; the clips come back without their images."""
    frames: list[list[FrameFeatures]] = [[] for _ in clips]
    for t, active, output in run_clips(model, clips, device):
        commands = [clips[index].clip.frames[t].command for index in active]
        ego_from_lidar = [clips[index].clip.frames[t].ego_from_lidar.matrix for index in active]
        bev_hw = model.bev_hw if config.bev_shift else None
        for index, item in zip(active, extract_features(output, commands, config, ego_from_lidar, bev_hw)):
            frames[index].append(item)
    return [(loaded.clip, items) for loaded, items in zip(clips, frames)]


def _clip_score(clip: Any, frames: list[FrameFeatures], version: str, config: ScoreConfig) -> ClipScore:
    poses = clip.global_from_lidar
    futures = [ego_future(poses, t) for t in range(len(clip.frames))]
    timestamps_us = [frame.timestamp_us for frame in clip.frames]
    return score_clip(clip.clip_token, timestamps_us, frames, futures, version, config)


def _score(token: str, result: Any, ledger: Ledger, version: str, config: ScoreConfig) -> dict[str, Any]:
    """Feature shift of one clip (CPU), and its entry in the ledger."""
    if isinstance(result, Failure):
        score = failed_score(token, version, result.reason)
    else:
        score = _clip_score(*result, version, config)
    ledger.add(token, score.to_row())
    return {"clip_token": token, "status": score.status}


def _facts(rows: list[dict[str, Any]], version: str, seconds: float) -> dict[str, Any]:
    return {
        "model_version": version,
        "n_clips": len(rows),
        "n_selectable": sum(row["selectable"] for row in rows),
        "n_failed": sum(row["status"] != "ok" for row in rows),
        "n_frames": sum(row["n_frames"] for row in rows),
        "seconds": round(seconds, 2),
    }
