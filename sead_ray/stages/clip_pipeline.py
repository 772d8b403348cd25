"""The Ray Data part that scoring and evaluation share: clips → decoded images (CPU tasks) → model (actors).

A row is a clip, since temporal attention needs the order of its frames. CPU shares are fractions, so that readers,
decoders and actors fit side by side on a machine with two cores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.data import ActorPoolStrategy, DataContext

from sead_ray.config import ImageConfig
from sead_ray.model.inference import Precision, Wanted
from sead_ray.model.weights import CARD, require_images_as_trained
from sead_ray.records import Clip
from sead_ray.stages.attempts import open_desk
from sead_ray.stages.clip_runner import LoadedClip, load_clip, load_encoded_clip
from sead_ray.stages.clip_source import ClipSource, clips_a_task
from sead_ray.stages.clip_tasks import ClipFinish, decode_clips, finish_clips
from sead_ray.stages.decoder_choice import Decoder, first_clip
from sead_ray.stages.diagnosis import is_timeout, stuck
from sead_ray.stages.model_actor import BATCHES_AT_ACTOR, ClipWork, ModelActor, awaited_model, ready_model
from sead_ray.stages.pipeline_size import PipelineSize, clips_that_fit
from sead_ray.stages.ray_errors import raise_as_told
from sead_ray.storage import Store

# A pool grows or shrinks by how many batches its actors have of those that they may have (2 each). Ray's own bounds are
# 1.75, which cannot be reached then, and 0.5, at which a pool of two would shrink only to grow again.
GROW_AT, SHRINK_AT = 0.75, 0.25
MOST_PARTS, MAX_ROWS_A_PART = 8192, 256  # of a ledger: so many files at most, of so many clips at most


@dataclass(frozen=True)
class Parts:
    """What reads a clip's images, and what makes the model: others only to measure the pipeline without them."""

    decode: Callable[[Clip, str, ImageConfig], LoadedClip] = load_clip
    model: Callable[[str, str, str, Precision], tuple[Any, str]] = ready_model


REAL_PARTS = Parts()
AHEAD = Parts(model=awaited_model)  # of the model: its actors start before it is published


@contextmanager
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
) -> Generator[Iterator[dict[str, Any]]]:
    """Streams the clips `tokens` through decoding, the model and `finish`; gives what `finish` returned, unordered.

    Decoders and `finish` run in CPU tasks beside the actors. An actor has its next batch at hand while it works. A clip
    that fails `max_attempts` times, or with which workers die so often, comes to `finish` as a `Failure`. When
    the block is left, done or not, everything that the pipeline holds of the cluster ends.

    Args:
        decoder: gpu: the CPU tasks only read the files, `work` sees no pixels of the clips.

    Raises:
        InputError: the model was trained on images decoded otherwise; no clip moved for `no_progress_timeout_s`, with
            what Ray says of it.
    """
    if not len(tokens):
        yield iter(())
        return
    if parts is not AHEAD:  # what this run is training sees this run's images
        require_images_as_trained(run.read_json(f"{model_key}/{CARD}"), image, run.path(model_key))
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = size.no_progress_timeout_s
    # On a CPU a clip's last digits depend on how many it is computed with: who goes with whom must not be by chance. A
    # GPU's batches are all of one shape.
    context.execution_options.preserve_order = size.gpus_per_actor == 0
    context.autoscaling_config.actor_pool_util_upscaling_threshold = GROW_AT
    context.autoscaling_config.actor_pool_util_downscaling_threshold = SHRINK_AT
    in_store = size if decoder == "cpu" else dataclasses.replace(size, lowers_clips=False)  # files are small
    store_bytes = ray.cluster_resources().get("object_store_memory", 0)
    clips_per_batch = clips_that_fit(first_clip(run), image, in_store, store_bytes)
    with open_desk(max_attempts) as attempts:
        read = parts.decode if decoder == "cpu" else load_encoded_clip
        decoded = _decoded(ClipSource.of(run), tokens, (data_root, image, read, attempts), size)
        model = partial(parts.model, run.root, model_key)
        made = (model, size.gpus_per_actor, precision, work, clips_per_batch, attempts)
        modelled = _modelled(decoded, made, size, clips_per_batch, n_batches=-(-len(tokens) // clips_per_batch))
        finished = modelled.map_batches(
            finish_clips,
            fn_args=[finish, attempts],
            batch_format="pyarrow",
            batch_size=_rows_a_part(len(tokens), clips_per_batch),
            num_cpus=size.cpus_per_decoder,
            **size.decoder_nodes,
        )
        with closing(_rows(finished, size)) as rows:
            yield rows


# Any: Ray's stubs know no function of map_batches that takes fn_args, and no pyarrow table of iter_batches.


def _decoded(clips: ClipSource, tokens: Sequence[str] | pa.Array, how: tuple[Any, ...], size: PipelineSize) -> Any:
    """A row is a clip; `how`: the further arguments of `decode_clips`."""
    shares = clips.shares(tokens, clips_a_task(len(tokens), size.max_decoders))
    # A block each, made here: Ray's repartition takes a whole core for as long as it has blocks left, and on a machine
    # with two the tasks behind the model would not get their turn before the last clip of a large pool is decoded.
    source: Any = ray.data.from_arrow([shares.slice(row, 1) for row in range(len(shares))])
    return source.map_batches(
        decode_clips,
        fn_args=[clips, *how],
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=size.cpus_per_decoder,
        compute=ray.data.TaskPoolStrategy(size=min(size.max_decoders, len(shares))),
        **size.decoder_nodes,
    )


def _modelled(decoded: Any, made: tuple[Any, ...], size: PipelineSize, clips_per_batch: int, n_batches: int) -> Any:
    """`made`: the arguments of a `ModelActor`."""
    return decoded.map_batches(
        ModelActor,
        fn_constructor_args=made,
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


def _rows(finished: Any, size: PipelineSize) -> Generator[dict[str, Any]]:
    """What `finish` returned, as it comes; errors in our words."""
    try:
        for table in finished.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
    except ray.exceptions.RayError as error:
        raise_as_told(error)
        raise
    except Exception as error:
        if not is_timeout(error):
            raise
        asked = (
            f"each model actor asks for {size.cpus_per_actor:g} CPUs and {size.gpus_per_actor:g} GPUs, "
            f"each decoder for {size.cpus_per_decoder:g} CPUs"
        )
        raise stuck("No clip was finished", size.no_progress_timeout_s, asked, str(error)) from None


def _rows_a_part(n_clips: int, clips_per_batch: int) -> int | None:
    """Clips that are finished together; None: those of a batch. Of a large pool more, for fewer tasks and files."""
    rows = min(MAX_ROWS_A_PART, n_clips // MOST_PARTS)
    return rows if rows > clips_per_batch else None
