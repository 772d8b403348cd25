"""The Ray Data part that scoring and evaluation share: clips → decoded images (CPU tasks) → model (actors).

A row is a clip, since temporal attention needs the order of its frames. CPU shares are fractions, so that readers,
decoders and actors fit side by side on a machine with two cores.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import pyarrow as pa
import ray
import ray.data
import ray.exceptions
import torch
from ray.data import ActorPoolStrategy, DataContext

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.model.inference import InferenceModel, Precision, Wanted, precision_on
from sead_ray.model.weights import CARD, load_model, require_images_as_trained
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip, load_clip, load_encoded_clip
from sead_ray.stages.clip_source import ClipSource, clips_a_task
from sead_ray.stages.cluster import device_here
from sead_ray.stages.decoder_choice import Decoder
from sead_ray.stages.pipeline_size import PipelineSize, clips_that_fit
from sead_ray.stages.transport import pack, unpack
from sead_ray.storage import Store

MOST_PARTS, MAX_ROWS_A_PART = 8192, 256  # of a ledger: so many files at most, of so many clips at most
BATCHES_AT_ACTOR = 2  # one computes, the other is on its way to the device


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used, and why, in one sentence."""

    reason: str


# What a model actor computes of a batch: (`InferenceModel`, version, clips, device) -> one picklable result a clip.
ClipWork = Callable[[Any, str, Sequence[LoadedClip], str], list[Any]]
# What CPU tasks make of a batch's results: (clip token, result or Failure) of each clip -> one small row each.
ClipFinish = Callable[[Sequence[tuple[str, Any]]], list[dict[str, Any]]]


def ready_model(run_root: str, model_key: str, device: str, precision: Precision) -> tuple[Any, str]:
    """The model at `model_key` on its device, ready for inference, and its version."""
    model, info = load_model(Store(run_root), model_key, device)
    return InferenceModel(model, precision), info["model_version"]


@dataclass(frozen=True)
class Parts:
    """What reads a clip's images, and what makes the model: others only to measure the pipeline without them."""

    decode: Callable[[Clip, str, ImageConfig], LoadedClip] = load_clip
    model: Callable[[str, str, str, Precision], tuple[Any, str]] = ready_model


REAL_PARTS = Parts()


def run_pipeline(
    run: Store,
    data_root: str,
    image: ImageConfig,
    model_key: str,
    tokens: Sequence[str] | pa.Array,
    work: ClipWork,
    finish: ClipFinish,
    size: PipelineSize,
    precision: Wanted = "fp32",
    decoder: Decoder = "cpu",
    parts: Parts = REAL_PARTS,
) -> Iterator[dict[str, Any]]:
    """Streams the clips `tokens` through decoding, the model and `finish`; yields what `finish` returned, unordered.

    Decoders and `finish` run in CPU tasks beside the actors. An actor has its next batch at hand while it works.

    Args:
        decoder: gpu: the CPU tasks only read the files, `work` sees no pixels of the clips.

    Raises:
        InputError: the model was trained on images decoded otherwise; no clip moved for `no_progress_timeout_s`, with
            what Ray says of it.
    """
    if not len(tokens):
        return
    require_images_as_trained(run.read_json(f"{model_key}/{CARD}"), image, run.path(model_key))
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = size.no_progress_timeout_s
    clips = ClipSource.of(run)
    shares = clips.shares(tokens, clips_a_task(len(tokens), size.max_decoders))
    first = Clip.from_row(next(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)))
    in_store = size if decoder == "cpu" else dataclasses.replace(size, lowers_clips=False)  # files are small
    clips_per_batch = clips_that_fit(first, image, in_store, ray.cluster_resources().get("object_store_memory", 0))
    n_batches = -(-len(tokens) // clips_per_batch)
    # Any: Ray's stubs know no function of map_batches that takes fn_args, and no pyarrow table of iter_batches.
    source: Any = ray.data.from_arrow(shares)
    decoded = source.repartition(target_num_rows_per_block=1).map_batches(
        _decode,
        fn_args=[clips, data_root, image, parts.decode if decoder == "cpu" else load_encoded_clip],
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=size.cpus_per_decoder,
        compute=ray.data.TaskPoolStrategy(size=min(size.max_decoders, len(shares))),
        **size.decoder_nodes,
    )
    modelled = decoded.map_batches(
        _ModelActor,
        fn_constructor_args=[
            partial(parts.model, run.root, model_key),
            size.gpus_per_actor,
            precision,
            work,
            clips_per_batch,
        ],
        batch_format="pyarrow",
        batch_size=clips_per_batch,
        compute=ActorPoolStrategy(
            min_size=min(size.min_actors, n_batches),
            max_size=size.max_actors,
            max_tasks_in_flight_per_actor=BATCHES_AT_ACTOR,
            max_concurrent_calls_per_actor=BATCHES_AT_ACTOR,
            enable_true_multi_threading=True,  # the actor itself lets one batch at a time compute
        ),
        num_gpus=size.gpus_per_actor,
        num_cpus=size.cpus_per_actor,
        **size.actor_nodes,
    )
    finished = modelled.map_batches(
        _finish,
        fn_args=[finish],
        batch_format="pyarrow",
        batch_size=_rows_a_part(len(tokens), clips_per_batch),
        num_cpus=size.cpus_per_decoder,
        **size.decoder_nodes,
    )
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


def _rows_a_part(n_clips: int, clips_per_batch: int) -> int | None:
    """Clips that are finished together; None: those of a batch. Of a large pool more, for fewer tasks and files."""
    rows = min(MAX_ROWS_A_PART, n_clips // MOST_PARTS)
    return rows if rows > clips_per_batch else None


def _decode(
    shares: pa.Table,
    clips: ClipSource,
    data_root: str,
    image: ImageConfig,
    decode: Callable[[Clip, str, ImageConfig], LoadedClip],
) -> Iterator[pa.Table]:
    """Clip by clip, so that a block of the object store holds one where clips are large."""
    cv2.setNumThreads(1)  # a decoder has one core; OpenCV would take all of them for each resize
    for clip in clips.read(shares):
        try:
            item: LoadedClip | Failure = decode(clip, data_root, image).without_cameras()
        except InputError as error:
            item = Failure(str(error))
        yield pack([(clip.clip_token, item)])


class _ModelActor:
    """Holds the model; each call runs a batch of clips. A clip that fails is tried once more on its own.

    Calls overlap: while one batch computes, the first frames of the next one are brought to the device.
    """

    def __init__(
        self,
        model: Callable[[str, Precision], tuple[Any, str]],
        gpus: float,
        precision: Wanted,
        work: ClipWork,
        clips_per_batch: int,
    ) -> None:
        self._device, self._work = device_here(gpus), work
        self._model, self._version = model(self._device, precision_on(self._device, precision))
        self._rows = clips_per_batch if self._device == "cuda" else None  # unchanging shapes run from a CUDA graph
        self._turn = threading.Lock()
        # Not the default stream: a JPEG engine's calls wait for all that is under way there, and it for them.
        self._stream = torch.cuda.Stream() if self._device == "cuda" else None

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = unpack(table)
        good = [(token, item) for token, item in rows if isinstance(item, LoadedClip)]
        results: dict[str, Any] = {token: item for token, item in rows if isinstance(item, Failure)}
        clips = ClipBatch([item for _, item in good], self._device, self._rows)
        with torch.no_grad(), torch.cuda.stream(self._stream), clips as batch, self._turn:
            results.update(zip([token for token, _ in good], self._run(batch)))
        return pack([(token, results[token]) for token, _ in rows])

    def _run(self, clips: ClipBatch) -> list[Any]:
        if not clips:
            return []
        try:
            return self._work(self._model, self._version, clips, self._device)
        except (ValueError, RuntimeError) as error:
            require_working_device(self._device, error)
            if len(clips) > 1:
                return [self._run_alone(clip) for clip in clips]
            if isinstance(error, InputError):  # an image that only its decoding shows to be broken
                return [Failure(str(error))]
            return [Failure(f"The model failed on clip {clips[0].clip.clip_token}: {' '.join(str(error).split())}.")]

    def _run_alone(self, clip: LoadedClip) -> Any:
        with ClipBatch([clip], self._device, self._rows) as alone:
            return self._run(alone)[0]


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


def _finish(table: pa.Table, finish: ClipFinish) -> pa.Table:
    return pa.Table.from_pylist(finish(unpack(table)))
