"""What the user leaves open follows from the cluster; what is set stands."""

from __future__ import annotations

import dataclasses

import pytest

from sead_ray.config import ImageConfig, RunConfig, ScoreConfig
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.pipeline_size import PipelineSize, clips_that_fit, derived_size
from sead_ray.storage import Store


def size(cpus: float, gpus: float, **settings: int | float) -> PipelineSize:
    score = ScoreConfig(**settings)
    each = score.gpus_per_actor if score.gpus_per_actor is not None else float(gpus > 0)
    resources = {"CPU": cpus, "GPU": gpus}
    return derived_size(score, score.clips_per_batch, score.min_actors, score.max_actors, resources, each)


def test_one_gpu_and_sixteen_cores() -> None:
    found = size(16, 1)
    assert (found.clips_per_batch, found.min_actors, found.max_actors, found.max_decoders) == (8, 1, 1, 14)
    # all of them run at once: shares of a core leave room for readers and for what is behind the actors
    assert found.max_decoders * found.cpus_per_decoder + found.cpus_per_actor < 16


def test_every_gpu_of_the_cluster_is_used() -> None:
    found = size(64, 4)
    assert (found.min_actors, found.max_actors, found.max_decoders) == (4, 4, 56)
    assert size(64, 4, gpus_per_actor=0.5).max_actors == 8
    assert size(64, 4, gpus_per_actor=2).max_actors == 2


def test_two_cores_without_a_gpu() -> None:
    found = size(2, 0)
    assert (found.clips_per_batch, found.min_actors, found.max_actors, found.max_decoders) == (2, 1, 1, 2)
    # Ray Data keeps a sixth of the cluster for each of the three steps; what is left takes a second decoder
    assert found.cpus_per_decoder <= 2 / 6
    assert size(1, 0).cpus_per_decoder * 6 <= 1
    assert size(0, 0).cpus_per_decoder == size(4, 0).cpus_per_decoder == 0.5  # nothing there yet; enough
    assert size(2, 0, cpus_per_decoder=0.5, cpus_per_actor=1).cpus_per_decoder == 0.5


def test_what_is_set_stands() -> None:
    found = size(16, 2, clips_per_batch=3, max_actors=5, max_decoders=4)
    assert (found.clips_per_batch, found.max_actors, found.max_decoders) == (3, 5, 4)
    assert found.min_actors == 2  # Ray Data waits for so many before it begins
    assert size(16, 2, min_actors=4, max_actors=1).min_actors == 1


@pytest.mark.usefixtures("ray_cluster")
def test_fewer_clips_where_the_object_store_is_small(tiny_run: Store, tiny_config: RunConfig) -> None:
    clip = Clip.from_row(next(tiny_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)))
    clip_bytes = 8 * 6 * 96 * 160 * 3
    image = ImageConfig(width=160)
    open_size, set_size = size(16, 1), size(16, 1, clips_per_batch=8)
    assert clips_that_fit(clip, image, open_size, 1e12) == 8
    assert clips_that_fit(clip, image, open_size, 13 * clip_bytes) == 2
    assert clips_that_fit(clip, image, open_size, 1) == 1
    assert clips_that_fit(clip, image, set_size, 1) == 8
    assert clips_that_fit(clip, image, dataclasses.replace(open_size, max_actors=2), 25 * clip_bytes) == 2
