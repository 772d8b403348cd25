"""What a measurement of scoring scores: clips of a generated world or of a run, repeated, and a model."""

from __future__ import annotations

import dataclasses
from itertools import cycle, islice
from typing import Any

import torch

from sead_ray.benchmark.scoring import ScoringBenchConfig
from sead_ray.benchmark.training import TrainingBenchConfig
from sead_ray.config import DataConfig, RunConfig, WorldConfig
from sead_ray.errors import InputError
from sead_ray.model.presets import resolve
from sead_ray.model.vad import VAD
from sead_ray.model.weights import save_model
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.adopt import adopt_model
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.storage import Store

MODEL = "model"
INTERVAL_US = 500_000


def write_pool(run: Store, root: str, config: ScoringBenchConfig) -> list[str]:
    """Writes the clips to score; returns their tokens."""
    if config.clips_from:
        source, key = Store(config.clips_from), layout.CLIPS_FILE
        rows = [row for row in source.iter_rows(key, CLIP_SCHEMA) if row["split"] == "pool"]
    else:
        rows = [_lengthened(row, config.frames) for row in _generated(run, root, config)]
    if not rows:
        raise InputError(f"{config.clips_from} holds no clip of a pool.")
    copies = [
        {**row, "clip_token": f"{number:05d}-{row['clip_token']}", "split": "pool"}
        for number, row in enumerate(islice(cycle(rows), config.clips))
    ]
    run.write_table(layout.CLIPS_FILE, copies, CLIP_SCHEMA, group=16)
    return [row["clip_token"] for row in copies]


def bench_world(config: ScoringBenchConfig | TrainingBenchConfig) -> WorldConfig:
    """The small world that a measurement takes its images from."""
    return WorldConfig(
        generate=True,
        scenes=config.scenes,
        frames=config.scene_frames,
        image_width=config.image_width,
        image_height=config.image_height,
        val_share=0.25,
        seed=config.seed,
    )


def _generated(run: Store, root: str, config: ScoringBenchConfig) -> list[dict[str, Any]]:
    """Clips of a small world, which is generated where it is not there yet."""
    base = run.below("base")
    settings = RunConfig(run_dir=base.root, data=DataConfig(root=root), world=bench_world(config), image=config.image)
    ensure_world(settings)
    prepare(base, settings)
    return list(base.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))


def _lengthened(row: dict[str, Any], n_frames: int) -> dict[str, Any]:
    """The clip with `n_frames` frames: its own forwards and backwards, at the nominal interval."""
    there = row["frames"]
    path = islice(cycle([*there, *there[-2:0:-1]]), n_frames)
    start_us = there[0]["timestamp_us"]
    frames = [{**frame, "timestamp_us": start_us + t * INTERVAL_US} for t, frame in enumerate(path)]
    return {**row, "frames": frames}


def write_model(run: Store, config: ScoringBenchConfig) -> None:
    """The model of `config.model_dir`, or a new one at random."""
    if config.model_dir:
        adopt_model(run, config.model_dir, MODEL, config.image)
        return
    size = resolve(config.model)
    if config.pretrained and "norm" not in config.model.overrides and size.preset != "vad_nano":
        size = dataclasses.replace(size, norm="BN")
    torch.manual_seed(config.seed)
    model = VAD(size, pretrained_backbone=config.pretrained and size.norm == "BN")
    save_model(run, MODEL, model, {"image": config.image.model_dump()})
