"""Loader processes change the time, never the batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.dataset import DrivingDataset
from sead_ray.stages.loader import MAX_WORKERS, MIN_WORKERS, BatchLoader, loader_workers
from sead_ray.stages.select import read_pool
from sead_ray.stages.train_loop import load_dataset
from sead_ray.storage import Store
from sead_ray.training.batch import TrainingBatch


@pytest.fixture(scope="module")
def dataset(tiny_run: Store, tiny_config: RunConfig) -> DrivingDataset:
    pool = read_pool(tiny_run, tiny_config)
    return load_dataset(tiny_run, tiny_config, {clip.clip_token: [3, 4, 5] for clip in pool.clips[:3]}, seed=5)


@pytest.fixture(scope="module")
def processes(dataset: DrivingDataset) -> Iterator[BatchLoader]:
    loader = BatchLoader(dataset, workers=2, threads=1)
    yield loader
    loader.close()


def content(batch: TrainingBatch) -> list[bytes]:
    return [np.asarray(part).tobytes() for part in batch.tensors()]


def test_processes_give_the_threads_batches_in_every_epoch(dataset: DrivingDataset, processes: BatchLoader) -> None:
    threads = BatchLoader(dataset, workers=0, threads=2)
    seen = []
    for epoch, batches in ((0, [[4, 0], [8], [1, 2, 3]]), (1, [[4, 0], [8]]), (1, [[8]])):
        ours = [content(batch) for batch in processes.batches(epoch, batches)]
        assert ours == [content(batch) for batch in threads.batches(epoch, batches)]
        seen.append(ours)
    assert seen[0][0] != seen[1][0]  # another epoch draws anew
    assert seen[1][1] == seen[2][0]  # from the middle of an epoch


def test_a_complaint_of_a_process_is_its_sentence(
    tiny_run: Store, tiny_config: RunConfig, dataset: DrivingDataset, tmp_path: Path
) -> None:
    clip, _ = dataset.samples[0]
    data = tiny_config.data.model_copy(update={"root": str(tmp_path)})
    bare = load_dataset(tiny_run, tiny_config.model_copy(update={"data": data}), {clip.clip_token: [0]}, seed=5)
    loader = BatchLoader(bare, workers=1, threads=1)
    with pytest.raises(InputError) as caught:
        list(loader.batches(0, [[0]]))
    loader.close()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("does not exist.")


def test_processes_are_for_gpus_that_would_wait(
    tiny_run: Store, tiny_config: RunConfig, dataset: DrivingDataset
) -> None:
    assert dataset.fits_in_cache
    assert loader_workers(TrainConfig(), dataset, on_gpu=True) == 0
    assert loader_workers(TrainConfig(loader_workers=3), dataset, on_gpu=False) == 3
    train = tiny_config.train.model_copy(update={"cache_gib": 0.0})
    clip, _ = dataset.samples[0]
    large = load_dataset(tiny_run, tiny_config.model_copy(update={"train": train}), {clip.clip_token: [3]}, seed=5)
    assert not large.fits_in_cache
    assert MIN_WORKERS <= loader_workers(TrainConfig(), large, on_gpu=True) <= MAX_WORKERS
    assert loader_workers(TrainConfig(), large, on_gpu=True, trainers_here=10**6) == MIN_WORKERS
    assert loader_workers(TrainConfig(), large, on_gpu=False) == 0
