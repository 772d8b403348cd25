"""How much of the cluster one pipeline takes; what the user left open follows from what the cluster has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ray

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.nuscenes.images import image_geometry
from sead_ray.records import CAMERAS, Clip
from sead_ray.stages.cluster import gpus_each, on_nodes

GPU_CLIPS, CPU_CLIPS = 8, 2  # clips in lockstep; from 8 images networks a GPU is busy, a CPU gains little from any
CPU_SHARE = 0.5  # of a core, for Ray: actors, decoders and the tasks behind fit side by side
BATCHES_IN_STORE = 6  # of an actor: one it works on, one that waits, one whose clips are gathered, and room for others
CORES_BESIDE_DECODERS = 2  # for each GPU: its actor with the copying thread, and the tasks behind it


@dataclass(frozen=True)
class PipelineSize:
    """Resources of one pipeline; CPU numbers are Ray's shares of a core.

    Attributes:
        lowers_clips: `clips_per_batch` was nobody's wish, so that fewer will do where memory is short.
        actor_nodes, decoder_nodes: Ray's options that say on which nodes, from `cluster.on_nodes`.
    """

    clips_per_batch: int
    lowers_clips: bool
    min_actors: int
    max_actors: int
    gpus_per_actor: float
    cpus_per_actor: float
    cpus_per_decoder: float
    max_decoders: int
    no_progress_timeout_s: float
    actor_nodes: dict[str, Any] = field(default_factory=dict)
    decoder_nodes: dict[str, Any] = field(default_factory=dict)


def pipeline_size(
    score: ScoreConfig, clips_per_batch: int | None, min_actors: int | None, max_actors: int | None
) -> PipelineSize:
    """What scoring and evaluation share of their resources is set under `score`; needs a connection to Ray."""
    resources = ray.cluster_resources()
    return derived_size(score, clips_per_batch, min_actors, max_actors, resources, gpus_each(score.gpus_per_actor))


def derived_size(
    score: ScoreConfig,
    clips_per_batch: int | None,
    min_actors: int | None,
    max_actors: int | None,
    resources: dict[str, float],
    gpus_per_actor: float,
) -> PipelineSize:
    """`resources`: Ray's totals of the cluster; only CPU and GPU are looked at."""
    fit = max(1, int(resources.get("GPU", 0) / gpus_per_actor)) if gpus_per_actor else 1
    most = max_actors or fit
    least = min(min_actors or (min(most, fit) if gpus_per_actor else 1), most)
    beside = CORES_BESIDE_DECODERS * min(most, fit) if gpus_per_actor else 0
    cpus = resources.get("CPU", 0)
    share = min(CPU_SHARE, cpus / 8) if cpus else CPU_SHARE
    return PipelineSize(
        clips_per_batch=clips_per_batch or (GPU_CLIPS if gpus_per_actor else CPU_CLIPS),
        lowers_clips=clips_per_batch is None,
        min_actors=least,
        max_actors=most,
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=score.cpus_per_actor or share,
        cpus_per_decoder=score.cpus_per_decoder or share,
        max_decoders=score.max_decoders or max(2, int(cpus) - beside),
        no_progress_timeout_s=score.no_progress_timeout_s,
        actor_nodes=on_nodes(score.actor_labels, score.actor_resources),
        decoder_nodes=on_nodes(score.decoder_labels, score.decoder_resources),
    )


def clips_that_fit(clip: Clip, image: ImageConfig, size: PipelineSize, store_bytes: float) -> int:
    """`size.clips_per_batch`, or fewer where it was left open and the object store could not hold the batches that
    are under way; `clip` stands for all."""
    if not size.lowers_clips:
        return size.clips_per_batch
    geometry = image_geometry(clip.frames[0], image)
    clip_bytes = len(clip.frames) * len(CAMERAS) * geometry.padded_height * geometry.width * 3
    fit = int(store_bytes / (BATCHES_IN_STORE * max(1, size.max_actors) * clip_bytes))
    return max(1, min(size.clips_per_batch, fit))
