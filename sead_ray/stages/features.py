"""Start features: what the backbone that every training starts from sees of each clip, before anything is labelled.

The starting model (`model`, its ImageNet weights where they are given, else its initialisation under `seed`) is written
out once; each clip's features are the mean of the backbone's last stage over pixels, cameras and frames, beside a small
picture of the front camera. ActiveFT selects by the former, VAAL by the latter where it is set to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from sead_ray.arrow import compute as pc
from sead_ray.config import RunConfig
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.nuscenes.images import normalise
from sead_ray.records import CAMERAS, ClipFeatures
from sead_ray.schemas import FEATURE_SCHEMA
from sead_ray.selection.vaal_networks import IMAGE_SIDE
from sead_ray.stages import layout, metrics
from sead_ray.stages.attempts import Failure
from sead_ray.stages.clip_pipeline import run_pipeline
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.cluster import connect
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import Progress
from sead_ray.stages.quarantine import STATUS as QUARANTINED
from sead_ray.stages.quarantine import quarantine, reasons_in
from sead_ray.stages.score import pool_tokens, without
from sead_ray.storage import Store

MAX_FRAMES = 8  # of a clip, evenly spread: neighbouring frames look alike


def extract_start_features(run: Store, config: RunConfig) -> None:
    """Publishes the pool's start features; returns at once where they are published, resumes by clip otherwise."""
    if run.is_published(layout.FEATURES):
        return
    with metrics.stage(run.root, "features"):
        _extract(run, config)


def _extract(run: Store, config: RunConfig) -> None:
    started = time.monotonic()
    version = _save_start_model(run, config)
    tokens = pool_tokens(run)
    ledger = Ledger(run, f"{layout.FEATURE_PARTS}/{version}", FEATURE_SCHEMA)
    pending = without(tokens, ledger.done())
    connect()
    done = len(tokens) - len(pending)
    with (
        Progress("start features", len(tokens), "clip", done=done) as progress,
        ledger.compacting(),
        run_pipeline(
            run,
            config.data.root,
            config.image,
            layout.START_MODEL,
            pending,
            work=_clip_features,
            finish=partial(_finish, ledger=ledger, version=version),
            size=pipeline_size(
                config.score, config.score.clips_per_batch, config.score.min_actors, config.score.max_actors
            ),
            max_attempts=config.score.max_attempts,
        ) as finished,
    ):
        for _ in finished:
            progress.advance()
    failed: list[int] = []
    given_up: dict[str, str] = {}
    run.write_groups(layout.FEATURES_FILE, _counted(ledger.merged(tokens), failed, given_up), FEATURE_SCHEMA)
    quarantine(run, given_up)
    seconds = round(time.monotonic() - started, 2)
    run.publish(
        layout.FEATURES, {"model_version": version, "n_clips": len(tokens), "n_failed": sum(failed), "seconds": seconds}
    )
    run.remove(layout.FEATURE_PARTS)


def _counted(tables: Iterator[pa.Table], failed: list[int], given_up: dict[str, str]) -> Iterator[pa.Table]:
    """Passes the tables on; appends how many clips of each failed, and adds the reasons of the quarantined ones."""
    for table in tables:
        given_up.update(reasons_in(table))
        failed.append(pc.sum(pc.not_equal(table.column("status"), "ok")).as_py())
        yield table


def _save_start_model(run: Store, config: RunConfig) -> str:
    """Its version. The same seed gives the same weights, so that a restart finds its own ledger."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(config.model)
    return save_model(run, layout.START_MODEL, model, {"start": True})["model_version"]


def _clip_features(model: Any, version: str, clips: Sequence[LoadedClip], device: str) -> list[ClipFeatures]:
    return [_features_of(model, version, loaded, device) for loaded in clips]


def _features_of(model: Any, version: str, loaded: LoadedClip, device: str) -> ClipFeatures:
    n_frames = len(loaded.clip.frames)
    frames = np.unique(np.linspace(0, n_frames - 1, min(n_frames, MAX_FRAMES)).round().astype(int))
    means = []
    for frame in frames:
        images = torch.from_numpy(loaded.pixels[frame][None].copy()).to(device)  # the store's memory is read-only
        with torch.inference_mode():
            last = model.planner.backbone(normalise(images, loaded.geometry.height).flatten(0, 1))[-1]
        means.append(last.float().mean(dim=(0, 2, 3)).cpu().numpy())
    embedding = np.mean(means, axis=0, dtype=np.float64).astype(np.float32).tolist()
    front = loaded.pixels[n_frames // 2][CAMERAS.index("CAM_FRONT")][: loaded.geometry.height, : loaded.geometry.width]
    small = cv2.resize(front, (IMAGE_SIDE, IMAGE_SIDE), interpolation=cv2.INTER_AREA)
    return ClipFeatures(loaded.clip.clip_token, version, "ok", "", n_frames, embedding, small.tobytes())


def _finish(results: Sequence[tuple[str, Any]], ledger: Ledger, version: str) -> list[dict[str, Any]]:
    features = [
        ClipFeatures(token, version, QUARANTINED, result.reason) if isinstance(result, Failure) else result
        for token, result in results
    ]
    ledger.add([item.to_row() for item in features])
    return [{"clip_token": item.clip_token, "status": item.status} for item in features]
