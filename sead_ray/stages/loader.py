"""Batches for the optimiser, decoded off the training process, or by its threads where that is enough.

What a batch holds depends on the dataset, the epoch and the order alone: never on processes, threads or timing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sead_ray.config import TrainConfig
from sead_ray.cpus import usable_cpus
from sead_ray.errors import InputError
from sead_ray.nuscenes.dataset import DrivingDataset, DrivingSample, collate
from sead_ray.stages.prefetch import prefetch
from sead_ray.training.batch import TrainingBatch

READERS = 8  # threads, where images are only read
MIN_WORKERS, MAX_WORKERS = 2, 14  # a VAD-Tiny sample is 18 images, about 0.1 s of one core

Draw = tuple[int, int]  # epoch, index


def loader_workers(config: TrainConfig, dataset: DrivingDataset, on_gpu: bool, trainers_here: int = 1) -> int:
    """Processes to decode with: as asked, else some where a GPU would wait for the interpreter's threads.

    Args:
        trainers_here: training workers of this node, who share its CPUs; each has use for two itself.
    """
    if config.loader_workers is not None:
        return config.loader_workers
    if not on_gpu or dataset.fits_in_cache or dataset.encoded:
        return 0
    return min(max(MIN_WORKERS, usable_cpus() // max(1, trainers_here) - 2), MAX_WORKERS)


class BatchLoader:
    """Yields an epoch's batches in their order, targets and all, some loaded ahead.

    Args:
        workers: processes, started once for all epochs; 0: `threads` of this process.
    """

    def __init__(self, dataset: DrivingDataset, workers: int, threads: int) -> None:
        self._dataset, self._threads = dataset, max(threads, READERS) if dataset.encoded else threads
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None
        if workers:
            # forkserver: a fork of a process with Ray's and Arrow's threads may stop dead.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["sead_ray.training.batch"])
            self._loader = DataLoader(
                _Draws(dataset.split_cache(workers)),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_collate,
                persistent_workers=True,
                prefetch_factor=2 if workers <= 4 else 1,  # of batches a process, in shared memory
                multiprocessing_context=context,
            )

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[TrainingBatch]:
        """The samples of each of `batches` (indices into the dataset), collated; raises as `stream`."""
        return self.stream([(epoch, index) for index in batch] for batch in batches)

    def stream(self, draws: Iterable[list[Draw]]) -> Iterator[TrainingBatch]:
        """Batches of any epochs, one after the other; processes begin at once. Only one stream at a time.

        Raises:
            InputError: where a batch's image or labels cannot be used; names the culprit.
        """
        if self._loader is None:
            return self._from_threads(draws)
        self._order.batches = draws
        return self._from_processes(iter(self._loader))

    def _from_threads(self, draws: Iterable[list[Draw]]) -> Iterator[TrainingBatch]:
        for samples in prefetch(lambda draw: self._dataset.sample(*draw), draws, self._threads):
            yield TrainingBatch.of(collate(samples))

    def _from_processes(self, batches: Iterator[TrainingBatch | InputError]) -> Iterator[TrainingBatch]:
        for batch in batches:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def close(self) -> None:
        """Ends the processes."""
        self._loader = None


class _Order:
    """The batch sampler of a loader that outlives the epoch: what is next is written into it."""

    def __init__(self) -> None:
        self.batches: Iterable[list[Draw]] = []

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)


class _Draws(Dataset[Any]):
    """Samples by (epoch, index). A complaint is returned: raised, torch would bury its sentence in a traceback."""

    def __init__(self, dataset: DrivingDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Draw) -> DrivingSample | InputError:
        try:
            return self._dataset.sample(*index)
        except InputError as error:
            return error


def _collate(samples: list[DrivingSample | InputError]) -> TrainingBatch | InputError:
    try:
        return TrainingBatch.of(collate([_raised(sample) for sample in samples]))
    except InputError as error:
        return error


def _raised(sample: DrivingSample | InputError) -> DrivingSample:
    if isinstance(sample, InputError):
        raise sample
    return sample
