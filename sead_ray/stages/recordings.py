"""CUDA graphs of a training's network and losses, by the batches that it will see."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager

import torch

from sead_ray.config import TrainConfig
from sead_ray.nuscenes.images import ImageGeometry
from sead_ray.training.batch import BatchTargets
from sead_ray.training.criterion import Predictions
from sead_ray.training.forward import TrainForward, blank_inputs, unchanged_buffers
from sead_ray.training.recorded_criterion import RecordedCriterion

logger = logging.getLogger(__name__)


class Recordings:
    """What is recorded stays in `forward` and `criterion`, who replay it. Nothing is recorded on a CPU, nor where a
    training shall be deterministic.

    Must be used before `forward` is wrapped for a gradient exchange, and while no other thread uses CUDA.
    """

    def __init__(
        self, forward: TrainForward, criterion: RecordedCriterion, config: TrainConfig, device: torch.device
    ) -> None:
        self._forward, self._criterion, self._config, self._device = forward, criterion, config, device
        self._sizes: dict[ImageGeometry, set[int]] = {}

    @property
    def possible(self) -> bool:
        return self._device.type == "cuda" and not torch.are_deterministic_algorithms_enabled()

    def record(self, geometry: ImageGeometry, samples: int) -> None:
        """For batches of so many samples; returns at once where that was done. The network is recorded for the first
        size alone, which smaller batches use too."""
        sizes = self._sizes.setdefault(geometry, set())
        if not self.possible or samples in sizes:
            return
        height = geometry.height
        inputs = blank_inputs(self._config.queue_length, samples, geometry, self._config.augment, self._device)
        if not sizes:
            with _recording(f"the network for batches of {samples}"):
                self._forward.record(inputs, height)
        with _recording(f"the loss for batches of {samples}"):
            images, lidar2img, can_bus, *draws = inputs
            with unchanged_buffers(self._forward.model):
                found = self._forward(images, lidar2img, can_bus, height, *draws)
            blank = BatchTargets.blank(samples).to(self._device)
            self._criterion.record(Predictions(*(value.nan_to_num() for value in found)), blank)
        sizes.add(samples)


@contextmanager
def _recording(what: str) -> Generator[None]:
    """What cannot be recorded is said, and computed as it is."""
    try:
        yield
    except RuntimeError as error:
        logger.warning("%s runs without CUDA graphs: %s", what, error)
        torch.cuda.empty_cache()
