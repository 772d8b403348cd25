"""The Ray Data part that scoring and evaluation share: clips → decoded images (CPU tasks) → model (actors).

A row is a clip, since temporal attention needs the order of its frames. CPU shares are fractions, so that readers,
decoders and actors fit side by side on a machine with two cores.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
import torch
from ray.data import ActorPoolStrategy, DataContext

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import CARD, load_model, require_images_as_trained
from sead_ray.records import Clip
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import LoadedClip, load_clip
from sead_ray.stages.cluster import device_for, gpus_each
from sead_ray.storage import Store

READER_CPUS = 0.25  # listing and filtering rows; never the bottleneck


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used, and why, in one sentence."""

    reason: str


@dataclass(frozen=True)
class PipelineSize:
    """Resources of one pipeline; CPU numbers are Ray's shares of a core."""

    clips_per_batch: int
    min_actors: int
    max_actors: int
    gpus_per_actor: float
    cpus_per_actor: float
    cpus_per_decoder: float
    max_decoders: int
    no_progress_timeout_s: float


def pipeline_size(score: ScoreConfig, clips_per_batch: int, min_actors: int, max_actors: int) -> PipelineSize:
    """What scoring and evaluation share of their resources is set under `score`."""
    return PipelineSize(
        clips_per_batch=clips_per_batch,
        min_actors=min_actors,
        max_actors=max_actors,
        gpus_per_actor=gpus_each(score.gpus_per_actor),
        cpus_per_actor=score.cpus_per_actor,
        cpus_per_decoder=score.cpus_per_decoder,
        max_decoders=score.max_decoders,
        no_progress_timeout_s=score.no_progress_timeout_s,
    )


# What a model actor computes of a batch: (model, model version, clips, device) -> one picklable result a clip.
ClipWork = Callable[[Any, str, Sequence[LoadedClip], str], list[Any]]


def run_pipeline(
    run: Store,
    data_root: str,
    image: ImageConfig,
    model_key: str,
    tokens: Sequence[str],
    work: ClipWork,
    finish: Callable[[str, Any], dict[str, Any]],
    size: PipelineSize,
) -> Iterator[dict[str, Any]]:
    """Streams the clips `tokens` through decoding, the model and `finish`; yields what `finish` returned, unordered.

    `finish(clip_token, result or Failure)` runs in CPU tasks beside the actors and returns a small row.

    Raises:
        InputError: the model was trained on images decoded otherwise; no clip moved for `no_progress_timeout_s`, with
            what Ray says of it.
    """
    if not tokens:
        return
    require_images_as_trained(run.read_json(f"{model_key}/{CARD}"), image, run.path(model_key))
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = size.no_progress_timeout_s
    # Any: Ray's stubs know no function of map_batches that takes fn_args, and no pyarrow table of iter_batches.
    source: Any = ray.data.read_parquet(run.path(layout.CLIPS_FILE), num_cpus=READER_CPUS)
    clips = source.map_batches(_keep, fn_args=[frozenset(tokens)], batch_format="pyarrow", num_cpus=READER_CPUS)
    decoded = clips.repartition(target_num_rows_per_block=size.clips_per_batch).map_batches(
        _decode,
        fn_args=[data_root, image],
        batch_format="pyarrow",
        num_cpus=size.cpus_per_decoder,
        compute=ray.data.TaskPoolStrategy(size=min(size.max_decoders, -(-len(tokens) // size.clips_per_batch))),
    )
    modelled = decoded.map_batches(
        _ModelActor,
        fn_constructor_args=[run.root, model_key, device_for(size.gpus_per_actor), work],
        batch_format="pyarrow",
        batch_size=size.clips_per_batch,
        compute=ActorPoolStrategy(min_size=min(size.min_actors, len(tokens)), max_size=size.max_actors),
        num_gpus=size.gpus_per_actor,
        num_cpus=size.cpus_per_actor,
    )
    finished = modelled.map_batches(_finish, fn_args=[finish], batch_format="pyarrow", num_cpus=size.cpus_per_decoder)
    try:
        for table in finished.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
    except ray.exceptions.RayError as error:
        _raise_input_error(error)
        raise
    except Exception as error:
        if type(error).__name__ != "ExecutionTimeoutError":
            raise
        raise InputError(
            f"No clip was finished for {size.no_progress_timeout_s:.0f} s: does the cluster have "
            f"{size.cpus_per_actor} CPUs and {size.gpus_per_actor} GPUs free for each model actor? Ray says: "
            f"{' '.join(str(error).split())[:400]}"
        ) from None


def _raise_input_error(error: BaseException) -> None:
    """A task's InputError comes wrapped in Ray's; the user wants the sentence."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(inner, InputError):
            raise InputError(str(inner)) from None
        cause = inner


def _keep(table: pa.Table, wanted: frozenset[str]) -> pa.Table:
    mask = [token in wanted for token in table.column("clip_token").to_pylist()]
    return table.filter(pa.array(mask, pa.bool_()))


def _decode(table: pa.Table, data_root: str, image: ImageConfig) -> pa.Table:
    loaded: list[tuple[str, LoadedClip | Failure]] = []
    for row in table.to_pylist():
        clip = Clip.from_row(row)
        try:
            loaded.append((clip.clip_token, load_clip(clip, data_root, image)))
        except InputError as error:
            loaded.append((clip.clip_token, Failure(str(error))))
    return _pack(loaded)


class _ModelActor:
    """Holds the model; each call runs a batch of clips. A clip that fails is tried once more on its own."""

    def __init__(self, run_root: str, model_key: str, device: str, work: ClipWork) -> None:
        torch.set_grad_enabled(False)
        self._model, info = load_model(Store(run_root), model_key, device)
        self._version = info["model_version"]
        self._device, self._work = device, work

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = _unpack(table)
        good = [(token, item) for token, item in rows if isinstance(item, LoadedClip)]
        results: dict[str, Any] = {token: item for token, item in rows if isinstance(item, Failure)}
        results.update(zip([token for token, _ in good], self._run([item for _, item in good])))
        return _pack([(token, results[token]) for token, _ in rows])

    def _run(self, clips: list[LoadedClip]) -> list[Any]:
        if not clips:
            return []
        try:
            return self._work(self._model, self._version, clips, self._device)
        except (ValueError, RuntimeError) as error:
            if len(clips) > 1:
                return [self._run([clip])[0] for clip in clips]
            require_working_device(self._device, error)
            return [Failure(f"The model failed on clip {clips[0].clip.clip_token}: {' '.join(str(error).split())}.")]


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


def _finish(table: pa.Table, finish: Callable[[str, Any], dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([finish(token, item) for token, item in _unpack(table)])


_PACKED = pa.schema([("clip_token", pa.string()), ("payload", pa.large_binary())])


def _pack(rows: Sequence[tuple[str, Any]]) -> pa.Table:
    """Objects between this pipeline's own tasks; never read from outside."""
    tokens = [token for token, _ in rows]
    return pa.table([tokens, [pickle.dumps(item, protocol=5) for _, item in rows]], schema=_PACKED)


def _unpack(table: pa.Table) -> list[tuple[str, Any]]:
    payloads = (pickle.loads(payload) for payload in table.column("payload").to_pylist())
    return list(zip(table.column("clip_token").to_pylist(), payloads))
