"""The model behind the service: which one, loading it, scoring one clip. No Serve in here."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError
from torch import Tensor

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.inference import InferenceModel, precision_on
from sead_ray.model.weights import CARD, load_model
from sead_ray.records import ClipScore
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.frame_step import FrameInput, FrameStep, step_frame
from sead_ray.stages.score import score_loaded_clips
from sead_ray.storage import Store
from sead_ray.wire import ModelInfo


@dataclass(frozen=True)
class Scored:
    """A clip's score and the seconds that the model took."""

    score: ClipScore
    seconds: float


class Scorer(Protocol):
    """What the HTTP layer knows of the model. All methods may raise `ApiError` 503."""

    async def info(self) -> ModelInfo: ...

    async def score(self, loaded: LoadedClip) -> Scored: ...

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep: ...


class LocalScorer:
    """The model in this process. One clip at a time: two would share the device and gain nothing."""

    def __init__(self, model_dir: str, device: str) -> None:
        """Raises `InputError` where the folder holds no model that the service can use."""
        parent, _, name = Store(model_dir).root.rpartition("/")
        model, card = load_model(Store(parent), name, device)
        self._device = device
        self._info = model_info(card, sum(value.numel() for value in model.parameters()), model_dir)
        self._model = InferenceModel(model, precision_on(device, self._info.score.precision))
        self._lock = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return self._info

    async def score(self, loaded: LoadedClip) -> Scored:
        async with self._lock:  # in a thread: the event loop goes on answering
            return await asyncio.to_thread(self._score, loaded)

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        async with self._lock:
            return await asyncio.to_thread(self._step, given, history)

    def _step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        info = self._info
        return step_frame(self._model, info.model_version, given, history, self._device, info.score)

    def _score(self, loaded: LoadedClip) -> Scored:
        started = time.perf_counter()
        info = self._info
        (score,) = score_loaded_clips(self._model, info.model_version, [loaded], self._device, info.score)
        return Scored(score, time.perf_counter() - started)


def find_model(config: ServeConfig) -> str:
    """The folder of the model to serve: `model_dir`, or the newest published round's of `run_dir`.

    Raises:
        InputError: neither or both are set, or there is no model.
    """
    if (config.run_dir is None) == (config.model_dir is None):
        raise InputError(
            "Set run_dir (a run's newest model is served) or model_dir (a model's folder), one of the two."
        )
    if config.model_dir is not None:
        store = Store(config.model_dir)
        if not store.exists(CARD):
            raise InputError(f"{store.path(CARD)} does not exist: model_dir must be a model's folder.")
        return store.root
    assert config.run_dir is not None
    run = Store(config.run_dir)
    newest, number = None, 0
    while run.exists(layout.round_folder(number)):
        if run.is_published(layout.model(number)):
            newest = number
        number += 1
    if newest is None:
        raise InputError(
            f"{run.root} holds no published model: train a round first (jobs.run_rounds), or set model_dir."
        )
    return run.path(layout.model(newest))


def model_info(card: dict[str, Any], n_parameters: int, model_dir: str) -> ModelInfo:
    """What the model's card says of itself.

    Raises:
        InputError: the card does not say how images reach the model, or how it scores.
    """
    info = card.get("info", {})
    try:
        return ModelInfo(
            model_version=card["model_version"],
            preset=card["size"]["preset"],
            round=info.get("round"),
            n_parameters=n_parameters,
            image=info["image"],
            score=info["score"],
        )
    except (KeyError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise InputError(
            f"{Store(model_dir).path(CARD)} cannot be served: its info needs `image` and `score` settings ({what})."
        ) from None
