"""The actor that holds a model and runs batches of clips through it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import torch

from sead_ray.config import ModelConfig
from sead_ray.errors import InputError
from sead_ray.model.inference import InferenceModel, Precision, Wanted, precision_on
from sead_ray.model.vad import build_model
from sead_ray.model.weights import load_model
from sead_ray.stages import layout
from sead_ray.stages.attempts import Attempts, Failure
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip
from sead_ray.stages.cluster import device_here, starting, switch_threads_often
from sead_ray.stages.transport import pack, unpack
from sead_ray.storage import Store

BATCHES_AT_ACTOR = 2  # one computes, the other is on its way to the device
LOOK_EVERY_S = 0.2  # for a model that is still to come

# What a model actor computes of a batch: (`InferenceModel`, version, clips, device) -> one picklable result a clip.
ClipWork = Callable[[Any, str, Sequence[LoadedClip], str], list[Any]]


def ready_model(run_root: str, model_key: str, device: str, precision: Precision) -> tuple[Any, str]:
    """The model at `model_key` on its device, ready for inference, and its version."""
    model, info = load_model(Store(run_root), model_key, device)
    return InferenceModel(model, precision), info["model_version"]


def awaited_model(run_root: str, model_key: str, device: str, precision: Precision) -> tuple[Any, str]:
    """The same of a model that is still to be published; meanwhile this process imports what builds it. No model where
    nobody expects it any more (`layout.expected`): an actor that failed here would be told of by Ray itself.
    """
    build_model(ModelConfig(preset="vad_nano"))
    run = Store(run_root)
    while not run.is_published(model_key):
        if not run.exists(layout.expected(model_key)) and not run.is_published(model_key):
            return None, ""
        time.sleep(LOOK_EVERY_S)
    return ready_model(run_root, model_key, device, precision)


class ModelActor:
    """Holds the model; each call runs a batch of clips. A clip that fails is tried again on its own.

    Calls overlap: while one batch computes, the first frames of the next one are brought to the device.
    """

    def __init__(
        self,
        model: Callable[[str, Precision], tuple[Any, str]],
        gpus: float,
        precision: Wanted,
        work: ClipWork,
        clips_per_batch: int,
        attempts: Attempts,
    ) -> None:
        switch_threads_often()
        self._device, self._work, self._attempts = device_here(gpus), work, attempts
        with starting(self._device):
            self._model, self._version = model(self._device, precision_on(self._device, precision))
        self._rows = clips_per_batch if self._device == "cuda" else None  # unchanging shapes run from a CUDA graph
        self._turn = threading.RLock()
        # Not the default stream: a JPEG engine's calls wait for all that is under way there, and it for them.
        self._stream = torch.cuda.Stream() if self._device == "cuda" else None

    def __call__(self, table: pa.Table) -> pa.Table:
        if self._model is None:
            raise InputError("The model is not expected any more.")
        rows = unpack(table)
        good = [(token, item) for token, item in rows if isinstance(item, LoadedClip)]
        results = dict(rows)  # what is no clip is why there is none
        if good:
            results |= self._attempts.run("scoring", good, self._compute, lambda: self._turn)
        return pack([(token, results[token]) for token, _ in rows])

    def _compute(self, rows: Sequence[tuple[str, LoadedClip]]) -> list[tuple[str, Any]]:
        clips = [item for _, item in rows]
        batch = ClipBatch(clips, self._device, self._rows)
        with torch.no_grad(), torch.cuda.stream(self._stream), batch, self._turn:
            return list(zip([token for token, _ in rows], self._run(batch)))

    def _run(self, clips: ClipBatch) -> list[Any]:
        try:
            return self._work(self._model, self._version, clips, self._device)
        except (ValueError, RuntimeError) as error:
            require_working_device(self._device, error)
            if len(clips) > 1:
                return [self._run_again(clip, self._attempts.most) for clip in clips]
            return [self._run_again(clips[0], self._attempts.most - 1, error)]

    def _run_again(self, clip: LoadedClip, times: int, error: Exception | None = None) -> Any:
        for _ in range(times):
            with ClipBatch([clip], self._device, self._rows) as alone:
                try:
                    return self._work(self._model, self._version, alone, self._device)[0]
                except (ValueError, RuntimeError) as another:
                    require_working_device(self._device, another)
                    error = another
        if isinstance(error, InputError):  # an image that only its decoding shows to be broken
            return Failure(str(error))
        return Failure(f"The model failed on clip {clip.clip.clip_token}: {' '.join(str(error).split())}.")


def require_working_device(device: str, error: Exception) -> None:
    """Tells a clip's fault from the device's: after a CUDA error every later call of the process fails too, and would
    mark the rest of the pool.

    Raises:
        InputError: nothing can be computed on `device` any more.
    """
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"The device {device} failed ({reason}): start the same command again to go on.") from error
