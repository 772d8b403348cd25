"""One round's training as a run of Ray Train, from the driver's side: its settings, its end, and what replaces a
controller that died."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ray.exceptions
import ray.train

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.cluster import gpus_each
from sead_ray.stages.lock import held_lease
from sead_ray.stages.process_group import ProcessGroup
from sead_ray.stages.progress import say
from sead_ray.stages.train_decoder import training_decoder
from sead_ray.stages.train_loop import train_worker
from sead_ray.stages.trainer import InterruptibleTrainer
from sead_ray.storage import Store

# Any: Ray's stubs give these classes as unions of Train v1's and v2's, which do not accept each other.
_ray_train: Any = ray.train


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


def work_of(bought: Mapping[str, list[int]], plan: Schedule) -> dict[str, Any]:
    """What `train_worker` is told of a training's frames and steps."""
    return {"bought": {token: list(frames) for token, frames in bought.items()}, "schedule": asdict(plan)}


class RayTraining:
    """Round `number`'s training: goes on where an earlier one was stopped, since Ray Train finds it by its storage."""

    def __init__(self, run: Store, config: RunConfig, number: int, work: dict[str, Any] | None) -> None:
        """
        Args:
            work: of `work_of`; None: the workers get ready, and begin when `layout.train_work` says with what.
        """
        train, gpus = config.train, gpus_each(config.train.gpus_per_worker)
        self.asked = (
            f"it asks for {asked_for(train)} workers with {train.cpus_per_worker:g} CPUs and {gpus:g} GPUs each"
        )
        self._max_failures, self._ended = train.max_failures, False
        self._trainer: Any = None
        self._settings: dict[str, Any] = {
            "train_loop_config": {
                "run_root": run.root,
                "config": config.model_dump(),
                "round": number,
                "work": work,
                "lease": held_lease(run),
                "decoder": training_decoder(run, config, number, gpus > 0),
            },
            "torch_config": ProcessGroup(gpus=gpus),
            "scaling_config": _scaling(train, gpus),
            "run_config": _survival(train, run.path(layout.train_storage(number))),
        }
        run.remove(layout.train_error(number))

    def fit(self) -> Any:
        """Ray Train's result. It replaces workers that die, but not its controller: that is started again, and goes on
        as well."""
        for failures in itertools.count(1):
            self._trainer = InterruptibleTrainer(train_worker, **self._settings)
            if self._ended:
                self._trainer.end()
            try:
                return self._trainer.fit()
            except ray.exceptions.RayActorError as error:
                if self._ended or 0 <= self._max_failures < failures:
                    raise
                told = " ".join(str(error).split())[:200]
                say(f"Ray Train's controller died, the training goes on ({told})", "warning")
            except BaseException:
                self._trainer.end()
                raise
        raise AssertionError("unreachable")

    def end(self) -> None:
        """Ends what another thread waits for in `fit`."""
        self._ended = True
        if self._trainer is not None:
            self._trainer.end()


def asked_for(config: TrainConfig) -> int | tuple[int, int]:
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


def _scaling(train: TrainConfig, gpus: float) -> Any:
    """How many workers, and what each takes."""
    return _ray_train.ScalingConfig(
        num_workers=asked_for(train),
        elastic_resize_monitor_interval_s=train.resize_every_s,
        use_gpu=gpus > 0,
        resources_per_worker={
            "CPU": train.cpus_per_worker,
            **({"GPU": gpus} if gpus > 0 else {}),
            **train.resources,
        },
        label_selector=train.labels or None,
    )


def _survival(train: TrainConfig, storage: str) -> Any:
    """What a training outlives, and where it keeps its checkpoints."""
    return _ray_train.RunConfig(
        name="run",
        storage_path=storage,
        failure_config=_ray_train.FailureConfig(
            max_failures=train.max_failures,
            max_preemption_failures=train.max_preemptions,
            controller_failure_limit=-1,  # workers that find no place: `no_progress_timeout_s` ends the wait
        ),
        checkpoint_config=_ray_train.CheckpointConfig(num_to_keep=2),
    )
