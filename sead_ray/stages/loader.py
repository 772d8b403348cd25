"""Batches for the optimiser, decoded off the training process, or by its threads where that is enough.

What a batch holds depends on the dataset, the epoch and the order alone: never on processes, threads or timing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sead_ray.config import TrainConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.dataset import DrivingBatch, DrivingDataset, DrivingSample, collate
from sead_ray.stages.prefetch import prefetch

DEFAULT_WORKERS = 4  # a VAD-Tiny sample is 18 images, about 0.1 s of one core

Draw = tuple[int, int]  # epoch, index


def loader_workers(config: TrainConfig, dataset: DrivingDataset, on_gpu: bool) -> int:
    """Processes to decode with: as asked, else some where a GPU would wait for the interpreter's threads."""
    if config.loader_workers is not None:
        return config.loader_workers
    return DEFAULT_WORKERS if on_gpu and not dataset.fits_in_cache else 0


class BatchLoader:
    """Yields an epoch's batches in their order, some loaded ahead.

    Args:
        workers: processes, started once for all epochs; 0: `threads` of this process.
        pin: hand out page-locked images.
    """

    def __init__(self, dataset: DrivingDataset, workers: int, threads: int, pin: bool) -> None:
        self._dataset, self._threads, self._pin = dataset, threads, pin
        self._order = _Order()
        self._loader: DataLoader[Any] | None = None
        if workers:
            # forkserver: a fork of a process with Ray's and Arrow's threads may stop dead.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["sead_ray.nuscenes.dataset"])
            self._loader = DataLoader(
                _Draws(dataset.split_cache(workers)),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_collate,
                pin_memory=pin,
                persistent_workers=True,
                multiprocessing_context=context,
            )

    def batches(self, epoch: int, batches: Sequence[Sequence[int]]) -> Iterator[DrivingBatch]:
        """The samples of each of `batches` (indices into the dataset), collated.

        Raises:
            InputError: where a batch's image or labels cannot be used; names the culprit.
        """
        draws = [[(epoch, index) for index in batch] for batch in batches]
        if self._loader is None:
            for samples in prefetch(lambda draw: self._dataset.sample(*draw), draws, self._threads):
                batch = collate(samples)
                yield batch.pin_memory() if self._pin else batch
            return
        self._order.batches = draws
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def close(self) -> None:
        """Ends the processes."""
        self._loader = None


class _Order:
    """The batch sampler of a loader that outlives the epoch: what is next is written into it."""

    def __init__(self) -> None:
        self.batches: list[list[Draw]] = []

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Draws(Dataset[Any]):
    """Samples by (epoch, index). A complaint is returned: raised, torch would bury its sentence in a traceback."""

    def __init__(self, dataset: DrivingDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: Draw) -> DrivingSample | InputError:
        try:
            return self._dataset.sample(*index)
        except InputError as error:
            return error


def _collate(samples: list[DrivingSample | InputError]) -> DrivingBatch | InputError:
    try:
        return collate([_raised(sample) for sample in samples])
    except InputError as error:
        return error


def _raised(sample: DrivingSample | InputError) -> DrivingSample:
    if isinstance(sample, InputError):
        raise sample
    return sample
