"""Stages of neighbouring rounds at the same time: what follows on a training gets ready shortly before its end, the
next training's workers also while clips are scored, and a round's model is evaluated while the next one trains.

Which clips are chosen and what is trained on them does not depend on it. A round of a small pool is short, and without
it mostly the start of processes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Self, TypeVar

import ray

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.ahead import judge_ahead, score_ahead
from sead_ray.stages.beside import Beside
from sead_ray.stages.cluster import connect, gpus_each
from sead_ray.stages.evaluate import Judged, evaluate_model
from sead_ray.stages.pipeline_size import PipelineSize, pipeline_size
from sead_ray.stages.progress import about, say
from sead_ray.stages.select import needs_scores
from sead_ray.stages.standby import Standby
from sead_ray.stages.take_up import is_pool_complete
from sead_ray.stages.train_watch import LOOK_EVERY_S
from sead_ray.storage import Store

AHEAD_S = 15.0  # before a training's end: as long as processes, libraries and models take to be there
THIRD = 0.33
ENDS_WITHIN_S = 15.0  # what is not waited for any more: Ray must still be there when it leaves its pipeline

T = TypeVar("T")
logger = logging.getLogger(__name__)


def shared_out(config: RunConfig) -> RunConfig:
    """How training workers and the actors that score share GPUs with `overlap`, where the configuration leaves it open:
    one GPU by thirds, for a training, the next one and actors; of several, actors get those that training leaves."""
    if not config.overlap:
        return config
    connect()
    gpus, train, score = ray.cluster_resources().get("GPU", 0), config.train, config.score
    if not gpus:
        return config
    trainings = 1
    if gpus == 1 and train.most_workers == 1:
        trainings = 2
        train = train.model_copy(update={"gpus_per_worker": train.gpus_per_worker or THIRD})
        score = score.model_copy(update={"gpus_per_actor": score.gpus_per_actor or THIRD})
    left = gpus - trainings * train.most_workers * gpus_each(train.gpus_per_worker)
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
        self._scores: tuple[int, Beside[None]] | None = None
        self._judged: tuple[int, Beside[Judged | None]] | None = None
        self._ended = threading.Event()
        self._is_on = config.overlap and self._has_room()
        # A training that has to start its workers anew must find room in spite of what waits for its end.
        self._looks_ahead = self._is_on and self._fits(trainings=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for begun in (self._scores, self._judged):
            if begun is not None:
                begun[1].join(ENDS_WITHIN_S)
        if self._standby is not None:
            self._standby[1].end()

    def get_ready(self, number: int) -> None:
        """Starts round `number`'s workers, unless they were: where its clips are not chosen yet, and its labels come by
        themselves."""
        if self._gets_ready(number) and self.standby(number) is None:
            with about(round=number):
                self._standby = number, Standby(self._run, self._config, number)

    @contextmanager
    def looking_ahead(self, number: int) -> Generator[None]:
        """Starts what follows on round `number`'s training when that, for which the block waits, is about to end: the
        next round's workers and scoring, or the last model's evaluation."""
        if not self._looks_ahead:
            yield
            return
        trained = threading.Event()
        look = Beside(partial(self._look_ahead, number, trained), f"look-ahead-{number}")
        try:
            yield
        finally:
            trained.set()
            look.result()
            self._run.remove(layout.expected(layout.model(number)))

    def standby(self, number: int) -> Standby | None:
        """What got ready for round `number`."""
        return _of(self._standby, number)

    def scores(self, number: int) -> Beside[None] | None:
        """Round `number`'s `score_ahead`."""
        return _of(self._scores, number)

    def judged(self, number: int) -> Beside[Judged | None] | None:
        """Round `number`'s `judge_ahead`."""
        return _of(self._judged, number)

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
            evaluation.join(ENDS_WITHIN_S)
            raise
        evaluation.result()

    def _gets_ready(self, number: int) -> bool:
        chosen = number > self._last or self._run.is_published(layout.selection(number))
        return self._is_on and not chosen and self._config.labels.mode == "oracle"

    def _look_ahead(self, number: int, trained: threading.Event) -> None:
        first: tuple[int, float] | None = None
        while not trained.wait(LOOK_EVERY_S):
            state, now = self._progress(number), time.monotonic()
            if state is None:
                continue
            first = first or (state["step"], now)
            done, passed_s = state["step"] - first[0], now - first[1]
            if done > 0 and (state["steps"] - state["step"]) * passed_s / done <= AHEAD_S:
                self._begin_behind(number)
                return

    def _begin_behind(self, number: int) -> None:
        """What follows on the training of round `number`."""
        self.get_ready(number + 1)
        if number == self._last:
            self._judged = self._awaiting(number, judge_ahead, number)
        elif self._scores_ahead(number + 1):
            self._scores = self._awaiting(number, score_ahead, number + 1)

    def _awaiting(self, trained: int, work: Callable[..., T], number: int) -> tuple[int, Beside[T | None]]:
        """Round `number`'s `work`, begun while the model of round `trained` is expected."""
        self._run.write_json(layout.expected(layout.model(trained)), {})
        attempt = partial(_attempt, work, self._run, self._config, number, self._ended)
        with about(round=number):
            return number, Beside(attempt, f"ahead-{number}")

    def _scores_ahead(self, number: int) -> bool:
        """Whether round `number` will score, and just the clips that are in the pool now."""
        run = self._run
        wanted = needs_scores(self._config, number) and not run.is_published(layout.scores(number))
        return wanted and is_pool_complete(run)

    def _progress(self, number: int) -> dict[str, Any] | None:
        """What the training of round `number` wrote down last; None before it did, and when it is over."""
        with suppress(InputError, OSError):
            return self._run.read_json(layout.train_progress(number))
        return None

    def _has_room(self) -> bool:
        """Whether trainers and the actors that score fit into the cluster side by side; says so where they do not."""
        connect()
        fits = self._fits(trainings=1)
        if not fits:
            asked, there = self._asked(trainings=1), ray.cluster_resources()
            say(
                f"overlap: {self._config.train.most_workers} training workers and {self._size().max_actors} actors "
                f"side by side take {asked['CPU']:g} CPUs and {asked['GPU']:g} GPUs, the cluster has "
                f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}: stages come one after the other "
                "(train.gpus_per_worker, score.gpus_per_actor, score.max_actors)",
                "warning",
            )
        return fits

    def _fits(self, trainings: int) -> bool:
        there = ray.cluster_resources()
        return all(asked <= there.get(name, 0) for name, asked in self._asked(trainings).items())

    def _asked(self, trainings: int) -> dict[str, float]:
        """By so many trainings and the actors that score, side by side."""
        train, size = self._config.train, self._size()
        workers, actors = trainings * train.most_workers, size.max_actors
        return {
            "CPU": workers * train.cpus_per_worker + actors * size.cpus_per_actor + size.cpus_per_decoder,
            "GPU": workers * gpus_each(train.gpus_per_worker) + actors * size.gpus_per_actor,
        }

    def _size(self) -> PipelineSize:
        score = self._config.score
        return pipeline_size(score, None, score.min_actors, score.max_actors)


def _attempt(work: Callable[..., T], *arguments: Any) -> T | None:
    """None where it fails; nothing of it is kept then, such as a traceback whose frames hold actors."""
    try:
        return work(*arguments)
    except Exception as error:
        logger.info("what began ahead came to nothing: %s", error)
        return None


def _of(begun: tuple[int, T] | None, number: int) -> T | None:
    """What was begun, where it was for round `number`."""
    return begun[1] if begun is not None and begun[0] == number else None
