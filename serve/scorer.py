"""One model behind the service: loading it, scoring clips and frames with it. No Serve in here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.inference import InferenceModel, precision_on
from sead_ray.model.weights import CARD, load_model, read_card
from sead_ray.records import ClipScore
from sead_ray.stages import layout, serve_metrics
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip
from sead_ray.stages.clip_scores import packed_features, score_features
from sead_ray.stages.frame_step import FrameInput, FrameStep, frame_input, step_frame
from sead_ray.stages.promote import newest_round
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from sead_ray.wire import ModelInfo
from serve.batching import Abandoned, Batcher
from serve.canary import canary_clip
from serve.shift_meanwhile import ClipResult, ShiftMeanwhile

BATCH_CLIPS = {"cuda": 8, "cpu": 2}  # as when a pool is scored


@dataclass(frozen=True)
class ModelRef:
    """A model by what it is and where it lies; requests carry it, so that each is answered by one model."""

    version: str
    folder: str


@dataclass(frozen=True)
class Scored:
    """A clip's score; seconds of the model (for all clips that went with it), and of what was left of the shift after
    it; how many went."""

    score: ClipScore
    seconds: float
    shift_s: float = 0.0
    n_clips: int = 1


class Scorer(Protocol):
    """What the HTTP layer knows of a model. All methods may raise `ApiError` 503."""

    async def info(self) -> ModelInfo: ...

    def keep(self, frame: NDArray[np.uint8]) -> Any:
        """A decoded frame, (6, H, W, 3), to what `score` takes in its place. Called in the thread that decoded it."""
        ...

    async def score(self, loaded: LoadedClip) -> Scored: ...

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep: ...


class LocalScorer:
    """The model in this process. One call at a time: two would share the device and gain nothing."""

    def __init__(
        self,
        model_dir: str,
        device: str,
        max_clips: int | None = None,
        turn: asyncio.Lock | None = None,
        wait_s: float = 0.0,
    ) -> None:
        """
        Args:
            max_clips: that go through the model together; None: 8 on a GPU, 2 on a CPU.
            turn: shared by all models of the device; None: this one is alone there.

        Raises:
            InputError: the folder holds no model that the service can use.
        """
        parent, _, name = Store(model_dir).root.rpartition("/")
        model, card = load_model(Store(parent), name, device)
        self._device = device
        self._info = model_info(card, sum(value.numel() for value in model.parameters()), model_dir)
        self._model = InferenceModel(model, precision_on(device, self._info.score.precision))
        self._turn = turn or asyncio.Lock()
        self._max_clips = max_clips or BATCH_CLIPS[device.partition(":")[0]]
        self._batcher = Batcher(self._features, self._max_clips, self._turn, wait_s)

    async def info(self) -> ModelInfo:
        return self._info

    def keep(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return frame

    async def score(self, loaded: LoadedClip) -> Scored:
        computed = await self._batcher.submit(loaded)
        started = time.perf_counter()  # in a thread of its own: the model goes on with the next clips
        score = await asyncio.to_thread(self._score, loaded.clip.clip_token, computed.result)
        serve_metrics.observe("sead_serve_batch_clips", computed.n_clips)
        return Scored(score, computed.seconds, time.perf_counter() - started, computed.n_clips)

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        async with self._turn:
            return await asyncio.to_thread(self._step, given, history)

    async def warm_up(self) -> ClipScore:
        """Runs a made-up clip at every size of batch that this device knows, so that no request pays for it.

        Returns:
            The score of the made-up clip, alone.
        """
        canary = canary_clip(self._info.image)
        for n_clips in self._batch_sizes():
            async with self._turn:
                results = await asyncio.to_thread(self._features, [canary] * n_clips, lambda: False)
        return await asyncio.to_thread(self._score, "canary", results[0])

    async def check(self) -> None:
        """Runs one frame through the model, unless it is at work. Raises where it cannot, or gives no numbers."""
        if self._turn.locked():
            return
        canary = canary_clip(self._info.image)
        given = frame_input(canary.clip.frames[0], None, canary.images[0], canary.geometry, 0)
        step = await self.step(given, None)
        if not step.features.is_finite():
            raise RuntimeError(f"model {self._info.model_version} gives no finite numbers any more")

    def _batch_sizes(self) -> list[int]:
        """Largest first. A GPU replays recorded sizes, powers of two; a CPU has nothing to record."""
        if not self._device.startswith("cuda"):
            return [1]
        sizes = [self._max_clips]
        while sizes[-1] > 1:
            sizes.append(1 << (sizes[-1] - 1).bit_length() - 1)
        return sizes

    def _features(self, clips: Sequence[LoadedClip], is_abandoned: Callable[[], bool]) -> list[ClipResult]:
        def mark(_: str) -> None:
            if is_abandoned():
                raise Abandoned

        rows = None
        if self._device.startswith("cuda"):
            rows = min(size for size in self._batch_sizes() if size >= len(clips))
        config = self._info.score
        with ClipBatch(clips, self._device, rows) as batch, ShiftMeanwhile(clips, self._device, config) as shifts:
            for active, packed in packed_features(self._model, batch, self._device, config, mark):
                shifts.take(active, packed)
            return shifts.results()

    def _score(self, token: str, result: ClipResult) -> ClipScore:
        clip, frames, shifts = result
        return score_features(token, (clip, frames), self._info.model_version, self._info.score, shifts)

    def _step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        info = self._info
        return step_frame(self._model, info.model_version, given, history, self._device, info.score)


def require_plausible(score: ClipScore, known: ClipScore | None = None) -> None:
    """Refuses a model by its score of the made-up clip.

    Args:
        known: the score by the model that it is to replace. Scores of two models do not compare; a thousandfold does.

    Raises:
        InputError: the model gives no numbers, does not tell one frame from the next, or is far off the other.
    """
    named = f"Model {score.model_version} does not pass its trial"
    if score.status != "ok":
        raise InputError(f"{named}: {score.reason}")
    numbers = [*score.shift_agents, *score.shift_map, score.shift_sum, *score.embedding, score.displacement_error_m]
    if not np.isfinite(numbers).all():
        raise InputError(f"{named}: its score is not finite.")
    if not score.shift_sum > 0 or not 0 <= score.max_confidence <= 1:
        raise InputError(f"{named}: it sees no difference between frames, or confidences outside 0 to 1.")
    if known is not None and not 1e-3 < score.shift_sum / known.shift_sum < 1e3:
        raise InputError(f"{named}: it shifts {score.shift_sum:g}, the present model {known.shift_sum:g}.")


def find_model(config: ServeConfig) -> str:
    """The folder of the model to serve: `model_dir`, or of `run_dir` the promoted one, else the newest published
    round's.

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
    promoted = Registry(run).current() if config.follow != "off" else None
    if promoted is not None:
        return run.path(promoted.key)
    newest = newest_round(run)
    if newest is None:
        raise InputError(
            f"{run.root} holds no published model: train a round first (jobs.run_rounds), or set model_dir."
        )
    return run.path(layout.model(newest))


def ref_of(folder: str) -> ModelRef:
    """Raises `InputError` where there is no model's card."""
    store = Store(folder)
    return ModelRef(read_card(store, CARD)["model_version"], store.root)


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
