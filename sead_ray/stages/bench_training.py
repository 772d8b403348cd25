"""Measures training as users run it, JPEGs on disk through Ray Train; and the step alone on data in a GPU's memory."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray
import torch
from safetensors.torch import save_file

from sead_ray.benchmark.gpu_sampler import GpuSampler
from sead_ray.benchmark.training import TrainingBenchConfig, bench_steps, training_model
from sead_ray.config import DataConfig, RunConfig
from sead_ray.errors import InputError
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.bench_pool import bench_world
from sead_ray.stages.cluster import connect, device_for, gpus_each
from sead_ray.stages.prepare import ensure_world, prepare
from sead_ray.stages.progress import say
from sead_ray.stages.train import fit, schedule
from sead_ray.stages.train_decoder import waiting_share
from sead_ray.storage import Store
from sead_ray.training.forward import precision_on

DEFAULT_BATCH = 8
BACKBONE = "backbone.safetensors"


def bench_training(
    config: TrainingBenchConfig, command: str, keep: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Everything that the job shows.

    Args:
        keep: called with what is measured so far, after each part.

    Raises:
        InputError: the world has too few frames for a batch, or fewer GPUs are there than workers are asked for.
    """
    connect()
    run, gpus = Store(config.run_dir), gpus_each(config.train.gpus_per_worker)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": command,
        "model": config.model.preset,
        "queue_length": config.train.queue_length,
        "cpus": ray.cluster_resources().get("CPU", 0),
        "precision": precision_on(torch.device(device_for(gpus)), config.train.precision),
        "end_to_end": [],
        "setting": config.model_dump(mode="json"),
    }
    if config.alone:
        task = ray.remote(num_cpus=config.train.cpus_per_worker, num_gpus=gpus)(_steps_alone)
        result |= ray.get(task.remote(config, device_for(gpus)))
        for row in result["steps_alone"]:
            say(f"step alone, batch {row['batch']}: {row['ms_per_sample']:.2f} ms a sample")
        keep(result)
    if config.workers:
        bought = _data(run, config)
        batch = config.batch or _fastest(result.get("steps_alone", []))
        for n_workers in config.workers:
            result["end_to_end"].append(_end_to_end(run, config, bought, n_workers, batch))
            keep(result)
    return result


def _steps_alone(config: TrainingBenchConfig, device: str) -> dict[str, Any]:
    return bench_steps(config, torch.device(device), lambda _: None)


def _fastest(rows: Sequence[dict[str, Any]]) -> int:
    return min(rows, key=lambda row: row["ms_per_sample"])["batch"] if rows else DEFAULT_BATCH


def _data(run: Store, config: TrainingBenchConfig) -> dict[str, list[int]]:
    """A prepared world, generated where it is not there yet: the frames of its pool."""
    settings = _run_config(run, config)
    ensure_world(settings)
    prepare(run, settings)
    if config.pretrained:
        weights = {name: part.contiguous() for name, part in training_model(config).backbone.state_dict().items()}
        save_file(weights, run.path(BACKBONE))
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)
    return {row["clip_token"]: list(range(len(row["frames"]))) for row in rows if row["split"] == "pool"}


def _run_config(run: Store, config: TrainingBenchConfig, **train: Any) -> RunConfig:
    """`train`: what differs from the configured training."""
    model = config.model
    if config.pretrained:
        model = model.model_copy(update={"backbone_weights": run.path(BACKBONE)})
    return RunConfig(
        run_dir=run.root,
        seed=config.seed,
        data=DataConfig(root=Store(config.root).root),
        world=bench_world(config),
        image=config.image,
        model=model,
        train=config.train.model_copy(update=train),
    )


def _end_to_end(
    run: Store, config: TrainingBenchConfig, bought: dict[str, list[int]], n_workers: int, batch: int
) -> dict[str, Any]:
    """A training of `steps` steps whose images are decoded each time."""
    size = batch if config.same_global_batch else batch * n_workers
    frames = [(token, index) for token, indices in bought.items() for index in indices]
    if len(frames) < size:
        raise InputError(f"The world has {len(frames)} frames, fewer than {size} samples of a step: more scenes.")
    most = min(config.steps, len(frames) // size)
    whole = size * next(steps for steps in range(most, 0, -1) if config.steps % steps == 0)  # full batches alone
    chosen: dict[str, list[int]] = {}
    for token, index in frames[:whole]:
        chosen.setdefault(token, []).append(index)
    settings = _run_config(
        run, config, num_workers=n_workers, global_batch=size, epochs=1, min_steps=config.steps,
        max_steps=config.steps, checkpoint_epochs=config.steps, checkpoint_steps=None,
        cache_gib=0.0 if config.decode_always else config.train.cache_gib,
    )  # fmt: skip
    plan = schedule(whole, settings.train)
    run.remove(layout.train_storage(0))
    run.remove(layout.train_progress(0))  # of one that was interrupted
    started = time.time()
    with GpuSampler() as sampler:
        trained = fit(run, settings, 0, chosen, plan)
    seconds = time.time() - started
    with trained.checkpoint.as_directory() as path:
        history = [json.loads(line) for line in (Path(path) / "metrics.jsonl").read_text().splitlines()]
    run.remove(layout.train_storage(0))
    run.remove(layout.train_progress(0))
    row = {
        "workers": n_workers,
        "batch": size / n_workers,
        "seconds_cold": seconds,
        "start_s": history[0]["time_s"] - started,
        "start_up_s": history[0].get("start_up_s", {}),
    }
    row |= rates(history, size)
    row["gpu"] = sampler.summary(row.pop("from_s"), row.pop("to_s"))
    waited, busy = row["waiting_for_data"], row["gpu"].get("utilisation_percent")
    say(
        f"{n_workers} workers, batch {row['batch']:g}: {row['ms_per_sample']:.2f} ms a sample, "
        f"{waited:.0%} of the time waiting for data, first steps after {row['start_s']:.0f} s"
        + (f", GPU busy {busy:.0f} %" if busy else "")
    )
    return row


def rates(history: Sequence[dict[str, Any]], global_batch: int) -> dict[str, Any]:
    """Figures of a training's log: medians over its windows after the first quarter of the steps.

    Args:
        history: entries with step, loss, time_s, waited_s, memory_gib, in order.
    """
    counted = [entry for entry in history if entry["step"] >= history[-1]["step"] / 4]
    counted = counted if len(counted) > 1 else list(history)
    if len(counted) < 2:
        raise InputError("steps: too few to measure a rate; at least 20.")
    first, last = counted[0], counted[-1]
    seconds = last["time_s"] - first["time_s"]
    windows = [
        global_batch * (after["step"] - before["step"]) / (after["time_s"] - before["time_s"])
        for before, after in pairwise(counted)
    ]
    rate = statistics.median(windows)
    return {
        "samples_per_s": rate,
        "samples_per_s_whole": global_batch * (last["step"] - first["step"]) / seconds,
        "samples_per_s_windows": windows,
        "ms_per_sample": 1000 / rate,
        "waiting_for_data": waiting_share(counted),
        "peak_memory_gib": max(entry["memory_gib"] for entry in history),
        "losses": {entry["step"]: entry["loss"] for entry in history},
        "from_s": first["time_s"],
        "to_s": last["time_s"],
    }
