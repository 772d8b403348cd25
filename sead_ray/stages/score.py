"""Scoring: the unlabeled pool through the current model, feature shift and key frames of every clip.

The stage keeps its own ledger (`stages.ledger`) below `score_parts/<model version>/`: a restart scores only what it
does not hold; parts of another model are never looked at. When all clips are done the parts become
`scores/scores.parquet`, sorted by clip token, and the folder is published.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.commands import ego_future
from sead_ray.records import Clip, ClipScore
from sead_ray.schemas import CLIP_SCHEMA, SCORE_SCHEMA
from sead_ray.scoring.clip_score import failed_score, score_clip
from sead_ray.scoring.features import FrameFeatures, PackedFeatures, pack_features, unpack_features
from sead_ray.stages import layout, metrics
from sead_ray.stages.clip_pipeline import Failure, run_pipeline
from sead_ray.stages.clip_runner import LoadedClip, run_clips
from sead_ray.stages.cluster import connect
from sead_ray.stages.decoder_choice import choose_decoder
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import Progress, say
from sead_ray.storage import Store

FAILURES_NAMED = 20  # in the log; the scores hold the reasons of all


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
    if run.is_published(layout.scores(round_number)):
        return
    with metrics.stage(run.root, "score", round_number):
        _score_pool(run, config, round_number, model_key, exclude, labelled)


def _score_pool(
    run: Store, config: RunConfig, round_number: int, model_key: str, exclude: set[str], labelled: Collection[str]
) -> None:
    folder = layout.scores(round_number)
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
    size = pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors)
    decoder = choose_decoder(run, config.data.root, config.image, score, size, len(tokens))
    with Progress(f"score round {round_number}", len(tokens), "clip", done=len(done)) as progress:
        failed = 0
        for scored in run_pipeline(
            run,
            config.data.root,
            config.image,
            model_key,
            pending,
            work=partial(clip_features, config=score),
            finish=partial(_score_all, ledger=ledger, version=version, config=score),
            size=size,
            precision=score.precision,
            decoder=decoder,
        ):
            progress.advance()
            failed += scored["status"] != "ok"
            _tell(scored, run, round_number, named=failed <= FAILURES_NAMED)
    rows = ledger.rows(tokens)
    for row in rows:
        row["selectable"] = row["clip_token"] not in labelled
    run.write_table(layout.scores_file(round_number), rows, SCORE_SCHEMA)
    run.publish(folder, {**_facts(rows, version, time.monotonic() - started), "decoder": decoder})
    run.remove(layout.score_parts(round_number))


def _tell(scored: dict[str, Any], run: Store, round_number: int, named: bool) -> None:
    """One clip is done: metrics, and where it failed, a line that names it."""
    tags = {"run": run.root, "round": round_number}
    if scored["status"] == "ok":
        metrics.count("sead_clips_scored_total", 1, **tags)
        metrics.count("sead_frames_scored_total", scored["n_frames"], **tags)
        return
    metrics.count("sead_clips_failed_total", 1, **tags)
    if named:
        token = scored["clip_token"]
        say(f"score round {round_number}: clip {token} failed: {scored['reason']}", "warning", clip=token)


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
    features = clip_features(model, version, clips, device, config)
    return [_clip_score(clip, frames, version, config) for clip, frames in features]


def clip_features(
    model: Any,
    _version: str,
    clips: Sequence[LoadedClip],
    device: str,
    config: ScoreConfig,
    mark: Callable[[str], None] = lambda _: None,
) -> list[tuple[Clip, list[FrameFeatures]]]:
    """Reduced features of every frame; the clips come back without their images.

    They leave the device together at the end, so that no frame waits for the one before. `mark`: see `run_clips`.
    """
    commands = _commands_on_device(clips, device)
    bev_hw = model.bev_hw if config.bev_shift else None
    owners: list[int] = []
    packed: list[PackedFeatures] = []
    for t, active, output in run_clips(model, clips, device, mark):
        mounting = None
        if config.distance_from == "ego":
            mounting = [clips[index].clip.frames[t].ego_from_lidar.matrix for index in active]
        commanded = commands[t] if len(active) == len(clips) else torch.stack([commands[t, index] for index in active])
        packed.append(pack_features(output, commanded, config, mounting, bev_hw))
        owners += active
    frames: list[list[FrameFeatures]] = [[] for _ in clips]
    if packed:
        flat = torch.cat([item.flat for item in packed]).cpu().numpy()
        for index, features in zip(owners, unpack_features(flat, packed[0].shapes)):
            frames[index].append(features)
    return [(loaded.clip, items) for loaded, items in zip(clips, frames)]


def _commands_on_device(clips: Sequence[LoadedClip], device: str) -> Tensor:
    """(T, B) int64, in one transfer; 0 behind a clip's end."""
    commands = np.zeros((max((len(loaded.clip.frames) for loaded in clips), default=0), len(clips)), np.int64)
    for column, loaded in enumerate(clips):
        commands[: len(loaded.clip.frames), column] = loaded.arrays.commands
    return torch.from_numpy(commands).to(device)


def _clip_score(clip: Any, frames: list[FrameFeatures], version: str, config: ScoreConfig) -> ClipScore:
    poses = clip.global_from_lidar
    futures = [ego_future(poses, t) for t in range(len(clip.frames))]
    timestamps_us = [frame.timestamp_us for frame in clip.frames]
    return score_clip(clip.clip_token, timestamps_us, frames, futures, version, config)


def score_features(token: str, result: Any, version: str, config: ScoreConfig) -> ClipScore:
    """Feature shift of one clip (CPU) from what `clip_features` gave for it, or the record of its failure."""
    if isinstance(result, Failure):
        return failed_score(token, version, result.reason)
    return _clip_score(*result, version, config)


def _score_all(
    results: Sequence[tuple[str, Any]], ledger: Ledger, version: str, config: ScoreConfig
) -> list[dict[str, Any]]:
    """Scores of a batch of clips, and their entry in the ledger."""
    scores = [score_features(token, result, version, config) for token, result in results]
    ledger.add([score.to_row() for score in scores])
    return [{name: getattr(score, name) for name in ("clip_token", "status", "reason", "n_frames")} for score in scores]


def _facts(rows: list[dict[str, Any]], version: str, seconds: float) -> dict[str, Any]:
    return {
        "model_version": version,
        "n_clips": len(rows),
        "n_selectable": sum(row["selectable"] for row in rows),
        "n_failed": sum(row["status"] != "ok" for row in rows),
        "n_frames": sum(row["n_frames"] for row in rows),
        "seconds": round(seconds, 2),
    }
