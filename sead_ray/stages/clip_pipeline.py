"""The Ray Data part that scoring and evaluation share: clips → decoded images (CPU tasks) → model (actors).

A row is a clip, since temporal attention needs the order of its frames. CPU shares are fractions, so that readers,
decoders and actors fit side by side on a machine with two cores.
"""

from __future__ import annotations

import dataclasses
import re
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
from sead_ray.errors import InputError, StorageError
from sead_ray.model.inference import InferenceModel, Precision, Wanted, precision_on
from sead_ray.model.weights import CARD, load_model, require_images_as_trained
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.attempts import Attempts, Failure, open_desk
from sead_ray.stages.clip_runner import ClipBatch, LoadedClip, load_clip, load_encoded_clip
from sead_ray.stages.clip_source import ClipSource, clips_a_task
from sead_ray.stages.cluster import device_here
from sead_ray.stages.decoder_choice import Decoder
from sead_ray.stages.diagnosis import is_timeout, stuck
from sead_ray.stages.pipeline_size import PipelineSize, clips_that_fit
from sead_ray.stages.transport import pack, unpack
from sead_ray.storage import Store

MOST_PARTS, MAX_ROWS_A_PART = 8192, 256  # of a ledger: so many files at most, of so many clips at most
_TOLD = re.compile(r"^sead_ray\.errors\.(\w+Error): (.+)$", re.MULTILINE)
BATCHES_AT_ACTOR = 2  # one computes, the other is on its way to the device


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
    max_attempts: int = 3,
) -> Iterator[dict[str, Any]]:
    """Streams the clips `tokens` through decoding, the model and `finish`; yields what `finish` returned, unordered.

    Decoders and `finish` run in CPU tasks beside the actors. An actor has its next batch at hand while it works. A clip
    that fails `max_attempts` times, or with which workers die so often, comes to `finish` as a `Failure`.

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
    attempts = open_desk(max_attempts)
    # Any: Ray's stubs know no function of map_batches that takes fn_args, and no pyarrow table of iter_batches.
    source: Any = ray.data.from_arrow(shares)
    decoded = source.repartition(target_num_rows_per_block=1).map_batches(
        _decode,
        fn_args=[clips, data_root, image, parts.decode if decoder == "cpu" else load_encoded_clip, attempts],
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
            attempts,
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
        fn_args=[finish, attempts],
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
        if not is_timeout(error):
            raise
        asked = (
            f"each model actor asks for {size.cpus_per_actor:g} CPUs and {size.gpus_per_actor:g} GPUs, "
            f"each decoder for {size.cpus_per_decoder:g} CPUs"
        )
        raise stuck("No clip was finished", size.no_progress_timeout_s, asked, str(error)) from None


def _raise_input_error(error: BaseException) -> None:
    """A task's InputError comes wrapped in Ray's; the user wants the sentence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)):
            said = " ".join(str(cause).split())[:200]
            raise StorageError(
                f"Ray's object store is full, and so is the disk that it spills to ({said}): give the nodes more of "
                "either, or lower score.clips_per_batch and score.max_decoders."
            ) from None
        cause = getattr(cause, "cause", None) or cause.__cause__
    # What a task raised does not survive Ray Data's wrapping but in the text of its traceback.
    if told := _TOLD.findall(str(error)):
        name, sentence = told[-1]
        raise (StorageError if name == "StorageError" else InputError)(sentence) from None


def _rows_a_part(n_clips: int, clips_per_batch: int) -> int | None:
    """Clips that are finished together; None: those of a batch. Of a large pool more, for fewer tasks and files."""
    rows = min(MAX_ROWS_A_PART, n_clips // MOST_PARTS)
    return rows if rows > clips_per_batch else None


def _decode(
    shares: pa.Table,
    clips: ClipSource,
    data_root: str,
    image: ImageConfig,
    read: Callable[[Clip, str, ImageConfig], LoadedClip],
    attempts: Attempts,
) -> Iterator[pa.Table]:
    """Clip by clip, so that a block of the object store holds one where clips are large."""
    cv2.setNumThreads(1)  # a decoder has one core; OpenCV would take all of them for each resize
    load = partial(_load, read=read, data_root=data_root, image=image, most=attempts.most)
    for clip in clips.read(shares):
        rows = [(clip.clip_token, clip)]
        yield pack(attempts.run("decoding", rows, lambda rows: [(token, load(clip)) for token, clip in rows]))


def _load(
    clip: Clip, read: Callable[..., LoadedClip], data_root: str, image: ImageConfig, most: int
) -> LoadedClip | Failure:
    """Tried `most` times: a file that a bucket did not give now it may give in a moment.

    Raises:
        StorageError: the bucket gives nothing at all; that is no clip's fault.
    """
    complaint = ""
    for attempt in range(most):
        try:
            return read(clip, data_root, image).without_cameras()
        except StorageError:
            if attempt == most - 1:
                raise
        except InputError as error:
            complaint = str(error)
    return Failure(complaint)


class _ModelActor:
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
        self._device, self._work, self._attempts = device_here(gpus), work, attempts
        self._model, self._version = model(self._device, precision_on(self._device, precision))
        self._rows = clips_per_batch if self._device == "cuda" else None  # unchanging shapes run from a CUDA graph
        self._turn = threading.RLock()
        # Not the default stream: a JPEG engine's calls wait for all that is under way there, and it for them.
        self._stream = torch.cuda.Stream() if self._device == "cuda" else None

    def __call__(self, table: pa.Table) -> pa.Table:
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


def _finish(table: pa.Table, finish: ClipFinish, attempts: Attempts) -> pa.Table:
    """A clip that `finish` fails on, or with which its process dies, comes to it again as a `Failure`."""
    done: list[dict[str, Any]] = []

    def finished(rows: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
        made = _finished(rows, finish, attempts.most)
        done.extend(made)
        return [(token, None) for token, _ in rows]

    given_up = [row for row in attempts.run("judging", unpack(table), finished) if isinstance(row[1], Failure)]
    return pa.Table.from_pylist([*done, *(finish(given_up) if given_up else [])])


def _finished(rows: Sequence[tuple[str, Any]], finish: ClipFinish, most: int) -> list[dict[str, Any]]:
    for attempt in range(most):
        try:
            return finish(rows)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            if len(rows) > 1:
                return [made for row in rows for made in _finished([row], finish, most)]
            if attempt == most - 1:
                reason = " ".join(str(error).split())
                return finish([(rows[0][0], Failure(f"Clip {rows[0][0]} cannot be judged: {reason}."))])
    raise AssertionError("unreachable")
