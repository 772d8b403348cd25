"""Measures scoring as users run it: JPEGs on disk through Ray Data to rows of scores; and each part on its own."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch

from sead_ray.benchmark.gpu_sampler import GpuSampler
from sead_ray.benchmark.scoring import ScoringBenchConfig, ceiling, time_alone, window_rates
from sead_ray.benchmark.timing import StageClock, peak_memory_gib
from sead_ray.config import ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.inference import InferenceModel, precision_on
from sead_ray.model.weights import CARD, load_model
from sead_ray.records import ClipScore
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages.bench_pool import MODEL, write_model, write_pool
from sead_ray.stages.clip_pipeline import run_pipeline
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip, load_clip, run_step
from sead_ray.stages.clip_scores import clip_features, score_features
from sead_ray.stages.cluster import connect, device_for
from sead_ray.stages.decoder_choice import (
    Decoder,
    choose_decoder,
    cpu_decode_fps,
    first_clip,
    gpu_decode_fps,
    on_actor,
)
from sead_ray.stages.ledger import Ledger
from sead_ray.stages.pipeline_size import PipelineSize, clips_that_fit, pipeline_size
from sead_ray.stages.progress import Progress, say
from sead_ray.storage import Store

PARTS, SCORES = "score_parts", "scores.parquet"


def bench_scoring(config: ScoringBenchConfig, command: str) -> dict[str, Any]:
    """Everything that `benchmark.scoring.markdown` shows, and the split by stage.

    Raises:
        InputError: the data or the model cannot be used; more than half of the clips failed.
    """
    connect()
    run, root = Store(config.run_dir), Store(config.root).root
    tokens = write_pool(run, root, config)
    write_model(run, config)
    size = _fitted(run, config)
    decoder = choose_decoder(run, root, config.image, config.score, size, len(tokens))
    decode_fps = {
        "cpu": cpu_decode_fps(run, root, config.image, min(3, config.repeats)),
        "gpu": gpu_decode_fps(run, root, config.image, size) if size.gpus_per_actor else 0.0,
    }
    measured = _score(run, root, config, tokens, size, decoder)
    alone = on_actor(_model_alone, size).remote(run.root, root, config, size)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "model": run.read_json(f"{MODEL}/{CARD}")["size"]["preset"],
        "cpus": ray.cluster_resources().get("CPU", 0),
        "decoder": decoder,
        "decode_fps": decode_fps[decoder],
        "decode_cpu_fps": decode_fps["cpu"],
        "decode_gpu_fps": decode_fps["gpu"],
        **measured,
        **ray.get(alone),
        **dataclasses.asdict(size),
        "setting": config.model_dump(mode="json"),
    }
    return {**result, **ceiling(result)}


def _fitted(run: Store, config: ScoringBenchConfig) -> PipelineSize:
    score = config.score
    size = pipeline_size(score, score.clips_per_batch, score.min_actors, score.max_actors)
    store_bytes = ray.cluster_resources().get("object_store_memory", 0)
    return dataclasses.replace(size, clips_per_batch=clips_that_fit(first_clip(run), config.image, size, store_bytes))


def _score(
    run: Store, root: str, config: ScoringBenchConfig, tokens: Sequence[str], size: PipelineSize, decoder: Decoder
) -> dict[str, Any]:
    """The pool to a table of scores."""
    run.remove(PARTS)
    version = run.read_json(f"{MODEL}/{CARD}")["model_version"]
    ledger = Ledger(run, PARTS, SCORE_SCHEMA)
    began = time.time()
    rows: list[dict[str, Any]] = []
    with (
        GpuSampler() as sampler,
        Progress("score", len(tokens), "clip") as progress,
        run_pipeline(
            run,
            root,
            config.image,
            MODEL,
            tokens,
            work=partial(_timed_features, config=config.score),
            finish=partial(_timed_scores, ledger=ledger, version=version, config=config.score),
            size=size,
            precision=config.score.precision,
            decoder=decoder,
        ) as scored,
    ):
        for row in scored:
            rows.append(row)
            progress.advance()
    run.write_groups(SCORES, ledger.merged(pa.array(tokens)), SCORE_SCHEMA)
    seconds = time.time() - began
    failed = [row["reason"] for row in rows if row["reason"]]
    if 2 * len(failed) > len(rows):
        raise InputError(f"{len(failed)} of {len(rows)} clips failed, the first: {failed[0]}")
    if failed:
        say(f"{len(failed)} clips failed, the first: {failed[0]}")
    return _figures(rows, seconds, sampler, size)


def _figures(rows: list[dict[str, Any]], seconds: float, sampler: GpuSampler, size: PipelineSize) -> dict[str, Any]:
    good = [row for row in rows if not row["reason"]]
    batches = {row["batch"]["started_s"]: row["batch"] for row in good if row["batch"]}
    actors = {batch["actor"] for batch in batches.values()}
    n_frames = sum(row["n_frames"] for row in good)
    rates = window_rates([(row["finished_s"], row["n_frames"]) for row in good], 2 * len(actors) * size.clips_per_batch)
    inside = [batch for batch in batches.values() if rates["start_s"] < batch["stopped_s"] <= rates["stop_s"]]
    inside = inside or list(batches.values())  # a short run, whose last scores came late
    frames_inside = max(1, sum(batch["n_frames"] for batch in inside))
    per_frame = {
        name: 1000 * sum(batch[name] for batch in inside) / frames_inside
        for name in ("gather_s", "wait_s", "model_s", "work_s")
    }
    worked_s = sum(batch["stopped_s"] - max(batch["started_s"], rates["start_s"]) for batch in inside)
    return {
        **rates,
        "fps_cold": n_frames / seconds,
        "seconds_cold": seconds,
        "n_actors": max(1, len(actors)),
        "n_clips": len(rows),
        "n_failed": len(rows) - len(good),
        "n_frames": n_frames,
        "ms_per_frame": {
            "decode or read (CPU task)": 1000 * sum(row["decode_s"] for row in good) / n_frames,
            "gather (copying thread)": per_frame["gather_s"],
            "wait for input (device)": per_frame["wait_s"],
            "model (device)": per_frame["model_s"],
            "features (device)": per_frame["work_s"],
            "shift and key frames (CPU task)": 1000 * sum(row["shift_s"] for row in good) / n_frames,
        },
        "actor_busy": worked_s / max(1e-9, len(actors) * (rates["stop_s"] - rates["start_s"])),
        "gpu": sampler.summary(rates["start_s"], rates["stop_s"]),
        "peak_memory_gib": max((batch["peak_gib"] for batch in batches.values()), default=0.0),
    }


def _timed_features(
    model: Any, version: str, clips: Sequence[LoadedClip], device: str, config: ScoreConfig
) -> list[Any]:
    """(features, seconds of the clip's decoding, seconds of the batch) of each clip."""
    started = time.time()
    clock = StageClock(device)
    features = clip_features(model, version, clips, device, config, clock.mark)
    stopped = time.time()
    seconds = clock.totals()
    batch = {
        "started_s": started,
        "stopped_s": stopped,
        "actor": os.getpid(),
        "n_frames": sum(len(loaded.clip.frames) for loaded in clips),
        "gather_s": clips.feed.gather_s if isinstance(clips, ClipBatch) else 0.0,
        **{f"{name}_s": seconds.get(name, 0.0) for name in ("wait", "model", "work")},
        "peak_gib": peak_memory_gib(torch.device(device)),
    }
    return [(item, loaded.decode_s, batch) for item, loaded in zip(features, clips)]


def _timed_scores(
    results: Sequence[tuple[str, Any]], ledger: Ledger, version: str, config: ScoreConfig
) -> list[dict[str, Any]]:
    rows, scores = [], []
    for token, result in results:
        features, decode_s, batch = result if isinstance(result, tuple) else (result, 0.0, None)
        started = time.perf_counter()
        score: ClipScore = score_features(token, features, version, config)
        scores.append(score.to_row())
        shift_s = time.perf_counter() - started
        timing = {"decode_s": decode_s, "shift_s": shift_s, "batch": batch}
        rows.append({"clip_token": token, "reason": score.reason, "n_frames": score.n_frames, **timing})
    ledger.add(scores)
    finished = time.time()
    return [{**row, "finished_s": finished} for row in rows]


def _model_alone(run_root: str, root: str, config: ScoringBenchConfig, size: PipelineSize) -> dict[str, Any]:
    """Frames per second of model and image network on a batch whose images are on the device."""
    device = device_for(size.gpus_per_actor)
    run = Store(run_root)
    precision = precision_on(device, config.score.precision)
    model = InferenceModel(load_model(run, MODEL, device)[0], precision)
    network: Any = model.planner
    clip = first_clip(run)
    loaded = load_clip(dataclasses.replace(clip, frames=clip.frames[:2]), root, config.image)
    with torch.inference_mode(), ClipBatch([loaded] * size.clips_per_batch, device) as batch:
        frame = list(_frames(batch))[-1]
        history = run_step(model, frame, None).bev.clone()
        rates = time_alone(
            lambda: run_step(model, frame, history),
            lambda: network.image_features(frame.images),
            size.clips_per_batch,
            torch.device(device),
            config.repeats,
        )
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {
        "model_fps": rates["model"],
        "backbone_fps": rates["backbone"],
        "device_name": name,
        "precision": precision,
    }


def _frames(batch: ClipBatch) -> Iterator[Any]:
    yield from batch.feed
