"""Training: Ray Train retrains VAD from scratch on everything bought so far.

The driver side. What runs in the workers is `train_loop.py`. A worker or controller that dies is replaced, and training
goes on from the last checkpoint; so does a driver that is started again, since Ray Train finds the run by name and
storage.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError, StorageError
from sead_ray.model.presets import size_from_dict
from sead_ray.model.weights import read_model, write_model
from sead_ray.stages import layout, metrics
from sead_ray.stages.cluster import connect
from sead_ray.stages.progress import say
from sead_ray.stages.ray_training import RayTraining, Schedule, work_of
from sead_ray.stages.standby import Standby
from sead_ray.stages.train_loop import MODEL
from sead_ray.stages.train_watch import watched
from sead_ray.storage import Store

# What disks and buckets say that take nothing, in Ray Train's texts.
_STORAGE_FAULTS = (
    *map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
    *("ACCESS_DENIED", "AccessDenied", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID", "SignatureDoesNotMatch"),
    "SIGNATURE_DOES_NOT_MATCH",
)


def schedule(n_samples: int, config: TrainConfig) -> Schedule:
    """Epochs from the configuration, raised to `min_steps` and cut to `max_steps`; the last batch may be smaller.

    Where `max_steps` is below one pass over the samples, the only epoch ends early, on a random part of them.

    Raises:
        InputError: nothing to train on.
    """
    if n_samples < 1:
        raise InputError("There is no labelled frame to train on.")
    steps = math.ceil(n_samples / config.global_batch)
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    epochs = max(config.epochs, math.ceil(config.min_steps / steps))
    if config.max_steps is not None:
        epochs = min(epochs, config.max_steps // steps)
    return Schedule(n_samples, config.global_batch, steps, epochs)


def train_model(
    run: Store, config: RunConfig, round_number: int, bought: Mapping[str, list[int]], standby: Standby | None = None
) -> None:
    """Trains on the frames `bought` (frame indices by clip token) and publishes round `round_number`'s model.

    Returns at once where the model is published.

    Args:
        standby: workers that got ready for this round.

    Raises:
        InputError: nothing to train on, a frame without labels, an image that cannot be read; or no step ended for
            `train.no_progress_timeout_s`, with what was waited for.
    """
    if run.is_published(layout.model(round_number)):
        return
    with metrics.stage(run.root, "train", round_number):
        _train(run, config, round_number, bought, standby)


def _train(
    run: Store, config: RunConfig, number: int, bought: Mapping[str, list[int]], standby: Standby | None
) -> None:
    started = time.monotonic()
    plan = schedule(sum(len(frames) for frames in bought.values()), config.train)
    connect()
    say(f"train round {number}: {plan.samples} frames, {plan.epochs} epochs of {plan.steps_per_epoch} steps")
    result = fit(run, config, number, bought, plan, standby)
    _publish(run, config, number, result, plan, time.monotonic() - started)


def fit(
    run: Store,
    config: RunConfig,
    number: int,
    bought: Mapping[str, list[int]],
    plan: Schedule,
    standby: Standby | None = None,
) -> Any:
    """Ray Train's result, whose checkpoint holds model and log; goes on where an earlier one was stopped."""
    work = work_of(bought, plan)
    training = standby or RayTraining(run, config, number, work)
    try:
        with watched(run, number, plan.total_steps, config.train.no_progress_timeout_s, training.asked):
            result = training.go_on_with(work) if isinstance(training, Standby) else training.fit()
    except ray.train.TrainingFailedError as error:
        if fault := _storage_fault(error):
            raise StorageError(f"Training round {number} cannot keep its checkpoints: {fault.rstrip('.')}.") from None
        raise
    finally:
        if run.exists(layout.train_error(number)):
            raise InputError(run.read_json(layout.train_error(number))["error"])
    if result.checkpoint is None:
        raise RuntimeError(f"training round {number} ended without a checkpoint")
    return result


def _storage_fault(error: Exception) -> str | None:
    """The line of Ray Train's error that says that checkpoints cannot be kept; None where that is not its cause."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return next((line[:300] for line in lines if any(mark in line for mark in _STORAGE_FAULTS)), None)


def _publish(run: Store, config: RunConfig, number: int, result: Any, plan: Schedule, seconds: float) -> None:
    with result.checkpoint.as_directory() as path:
        weights, card = read_model(Store(path), MODEL)
        history = (Path(path) / "metrics.jsonl").read_bytes()
    folder = layout.model(number)
    info = {
        "round": number,
        "seed": config.seed,
        "image": config.image.model_dump(),
        "score": config.score.model_dump(),
    }
    size = size_from_dict(card["size"])
    saved = write_model(run, folder, weights, size, card["pretrained_backbone"], info)
    run.write_bytes(f"{folder}/metrics.jsonl", history)
    last = json.loads(history.splitlines()[-1])
    run.publish(
        folder,
        {
            "model_version": saved["model_version"],
            "samples": plan.samples,
            "epochs": plan.epochs,
            "steps": plan.total_steps,
            "loss": last["loss"],
            "seconds": round(seconds, 2),
        },
    )
    for key in (layout.train_storage(number), layout.train_progress(number), layout.train_work(number)):
        run.remove(key)
