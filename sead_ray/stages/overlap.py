"""Stages of neighbouring rounds at the same time: the next training's workers get ready while clips are scored, and a
round's model is evaluated while the next one trains.

Which clips are chosen and what is trained on them does not depend on it. A round of a small pool is short, and without
it mostly the start of processes.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Self

import ray

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.beside import Beside
from sead_ray.stages.cluster import connect, gpus_each
from sead_ray.stages.evaluate import evaluate_model
from sead_ray.stages.pipeline_size import pipeline_size
from sead_ray.stages.progress import about, say
from sead_ray.stages.standby import Standby
from sead_ray.storage import Store


def shared_out(config: RunConfig) -> RunConfig:
    """How training workers and the actors that score share GPUs with `overlap`, where the configuration leaves it open:
    one GPU by halves; of several, actors get those that training leaves."""
    if not config.overlap:
        return config
    connect()
    gpus, train, score = ray.cluster_resources().get("GPU", 0), config.train, config.score
    if not gpus:
        return config
    if gpus == 1 and train.most_workers == 1:
        train = train.model_copy(update={"gpus_per_worker": train.gpus_per_worker or 0.5})
        score = score.model_copy(update={"gpus_per_actor": score.gpus_per_actor or 0.5})
    left = gpus - train.most_workers * gpus_each(train.gpus_per_worker)
    actors = score.max_actors or max(1, int(left / gpus_each(score.gpus_per_actor)))
    evaluate = config.evaluate.model_copy(update={"max_actors": config.evaluate.max_actors or actors})
    changes = {"train": train, "score": score.model_copy(update={"max_actors": actors}), "evaluate": evaluate}
    return config.model_copy(update=changes)


class Overlap:
    """Of one run's rounds. Use as a context manager: nothing of it goes on behind the block."""

    def __init__(self, run: Store, config: RunConfig) -> None:
        self._run, self._config = run, config
        self._last = len(config.select.rounds) - 1
        self._standby: tuple[int, Standby] | None = None
        self._is_on = config.overlap and self._has_room()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._standby is not None:
            self._standby[1].end()

    def get_ready(self, number: int) -> None:
        """Starts round `number`'s workers, where its clips are not chosen yet and its labels come by themselves."""
        chosen = number > self._last or self._run.is_published(layout.selection(number))
        if self._is_on and not chosen and self._config.labels.mode == "oracle":
            with about(round=number):
                self._standby = number, Standby(self._run, self._config, number)

    def standby(self, number: int) -> Standby | None:
        """What got ready for round `number`."""
        return self._standby[1] if self._standby is not None and self._standby[0] == number else None

    def evaluates_later(self, number: int) -> bool:
        """Whether round `number`'s model is evaluated beside the next training."""
        return self._is_on and number < self._last

    @contextmanager
    def evaluating(self, number: int) -> Generator[None]:
        """Evaluates round `number`'s model, if it is not, beside what the block does.

        Raises:
            InputError: of `evaluate_model`, at the block's end.
        """
        if number < 0 or not self._is_on:
            yield
            return
        stopped = threading.Event()
        with about(round=number):
            work = partial(evaluate_model, self._run, self._config, number, stopped)
            evaluation = Beside(work, f"evaluate-{number}")
        try:
            yield
        except BaseException:
            stopped.set()
            raise
        evaluation.result()

    def _has_room(self) -> bool:
        """Whether trainers and the actors that score fit into the cluster side by side; says so where they do not."""
        connect()
        train, there = self._config.train, ray.cluster_resources()
        size = pipeline_size(self._config.score, None, self._config.score.min_actors, self._config.score.max_actors)
        workers, actors = train.most_workers, size.max_actors
        gpus = workers * gpus_each(train.gpus_per_worker) + actors * size.gpus_per_actor
        cpus = workers * train.cpus_per_worker + actors * size.cpus_per_actor + size.cpus_per_decoder
        fits = gpus <= there.get("GPU", 0) and cpus <= there.get("CPU", 0)
        if not fits:
            say(
                f"overlap: {workers} training workers and {actors} actors side by side take {cpus:g} CPUs and {gpus:g} "
                f"GPUs, the cluster has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}: stages come one after the "
                "other (train.gpus_per_worker, score.gpus_per_actor, score.max_actors)",
                "warning",
            )
        return fits
