"""Training: Ray Train retrains VAD from scratch on everything bought so far.

The driver side. What runs in the workers is `train_loop.py`. A worker or controller that dies is replaced, and training
goes on from the last checkpoint; so does a driver that is started again, since Ray Train finds the run by name and
storage.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.exceptions
import ray.train

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError, StorageError
from sead_ray.model.weights import load_model, save_model
from sead_ray.stages import layout, metrics
from sead_ray.stages.cluster import connect, gpus_each
from sead_ray.stages.lock import held_lease
from sead_ray.stages.process_group import ProcessGroup
from sead_ray.stages.progress import say
from sead_ray.stages.train_decoder import training_decoder
from sead_ray.stages.train_loop import MODEL, train_worker
from sead_ray.stages.train_watch import watched
from sead_ray.stages.trainer import InterruptibleTrainer
from sead_ray.storage import Store

# What disks and buckets say that take nothing, in Ray Train's texts.
_STORAGE_FAULTS = (
    *map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS)),
    *("ACCESS_DENIED", "AccessDenied", "InvalidAccessKeyId", "INVALID_ACCESS_KEY_ID", "SignatureDoesNotMatch"),
    "SIGNATURE_DOES_NOT_MATCH",
)


@dataclass(frozen=True)
class Schedule:
    """How long a training runs."""

    samples: int
    global_batch: int
    steps_per_epoch: int
    epochs: int

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.epochs


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


def train_model(run: Store, config: RunConfig, round_number: int, bought: Mapping[str, list[int]]) -> None:
    """Trains on the frames `bought` (frame indices by clip token) and publishes round `round_number`'s model.

    Returns at once where the model is published.

    Raises:
        InputError: nothing to train on, a frame without labels, an image that cannot be read; or no step ended for
            `train.no_progress_timeout_s`, with what was waited for.
    """
    if run.is_published(layout.model(round_number)):
        return
    with metrics.stage(run.root, "train", round_number):
        _train(run, config, round_number, bought)


def _train(run: Store, config: RunConfig, round_number: int, bought: Mapping[str, list[int]]) -> None:
    started = time.monotonic()
    plan = schedule(sum(len(frames) for frames in bought.values()), config.train)
    connect()
    say(f"train round {round_number}: {plan.samples} frames, {plan.epochs} epochs of {plan.steps_per_epoch} steps")
    result = fit(run, config, round_number, bought, plan)
    _publish(run, config, round_number, result, plan, time.monotonic() - started)


def fit(run: Store, config: RunConfig, number: int, bought: Mapping[str, list[int]], plan: Schedule) -> Any:
    """Ray Train's result, whose checkpoint holds model and log; goes on where an earlier one was stopped."""
    train, gpus = config.train, gpus_each(config.train.gpus_per_worker)
    # Any: Ray's stubs give these classes as unions of Train v1's and v2's, which do not accept each other.
    ray_train: Any = ray.train
    settings: dict[str, Any] = {
        "train_loop_config": {
            "run_root": run.root,
            "config": config.model_dump(),
            "round": number,
            "bought": {token: list(frames) for token, frames in bought.items()},
            "schedule": asdict(plan),
            "lease": held_lease(run),
            "decoder": training_decoder(run, config, number, gpus > 0),
        },
        "torch_config": ProcessGroup(gpus=gpus),
        "scaling_config": ray_train.ScalingConfig(
            num_workers=_asked_for(train),
            elastic_resize_monitor_interval_s=train.resize_every_s,
            use_gpu=gpus > 0,
            resources_per_worker={
                "CPU": train.cpus_per_worker,
                **({"GPU": gpus} if gpus > 0 else {}),
                **train.resources,
            },
            label_selector=train.labels or None,
        ),
        "run_config": ray_train.RunConfig(
            name="run",
            storage_path=run.path(layout.train_storage(number)),
            failure_config=ray_train.FailureConfig(
                max_failures=train.max_failures,
                max_preemption_failures=train.max_preemptions,
                controller_failure_limit=-1,  # workers that find no place: `no_progress_timeout_s` ends the wait
            ),
            checkpoint_config=ray_train.CheckpointConfig(num_to_keep=2),
        ),
    }
    run.remove(layout.train_error(number))
    asked = f"it asks for {_asked_for(train)} workers with {train.cpus_per_worker:g} CPUs and {gpus:g} GPUs each"
    try:
        with watched(run, number, plan.total_steps, train.no_progress_timeout_s, asked):
            result = _fitted(settings, train.max_failures)
    except ray_train.TrainingFailedError as error:
        if fault := _storage_fault(error):
            raise StorageError(f"Training round {number} cannot keep its checkpoints: {fault.rstrip('.')}.") from None
        raise
    finally:
        if run.exists(layout.train_error(number)):
            raise InputError(run.read_json(layout.train_error(number))["error"])
    if result.checkpoint is None:
        raise RuntimeError(f"training round {number} ended without a checkpoint")
    return result


def _asked_for(config: TrainConfig) -> int | tuple[int, int]:
    """Ray Train's `num_workers`.

    Raises:
        InputError: more workers than a global batch has samples: some would only ever wait for the others.
    """
    if config.most_workers > config.global_batch:
        raise InputError(
            f"train.num_workers asks for {config.most_workers} workers, but a batch has only the "
            f"{config.global_batch} samples of train.global_batch: take fewer workers, or a larger batch."
        )
    return tuple(config.num_workers) if isinstance(config.num_workers, list) else config.num_workers


def _fitted(settings: dict[str, Any], max_failures: int) -> Any:
    """Ray Train replaces workers that die, but not its controller: that is started again, and goes on as well."""
    for failures in itertools.count(1):
        trainer = InterruptibleTrainer(train_worker, **settings)
        try:
            return trainer.fit()
        except ray.exceptions.RayActorError as error:
            if 0 <= max_failures < failures:
                raise
            say(f"Ray Train's controller died, the training goes on ({' '.join(str(error).split())[:200]})", "warning")
        except BaseException:
            trainer.end()
            raise
    raise AssertionError("unreachable")


def _storage_fault(error: Exception) -> str | None:
    """The line of Ray Train's error that says that checkpoints cannot be kept; None where that is not its cause."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return next((line[:300] for line in lines if any(mark in line for mark in _STORAGE_FAULTS)), None)


def _publish(run: Store, config: RunConfig, number: int, result: Any, plan: Schedule, seconds: float) -> None:
    with result.checkpoint.as_directory() as path:
        model, _ = load_model(Store(path), MODEL)
        history = (Path(path) / "metrics.jsonl").read_bytes()
    folder = layout.model(number)
    info = {
        "round": number,
        "seed": config.seed,
        "image": config.image.model_dump(),
        "score": config.score.model_dump(),
    }
    saved = save_model(run, folder, model, info)
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
    run.remove(layout.train_storage(number))
    run.remove(layout.train_progress(number))
