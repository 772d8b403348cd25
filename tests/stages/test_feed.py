"""Batches on their way to the device: in order, errors where they belong, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from sead_ray.benchmark.inputs import random_targets
from sead_ray.errors import InputError
from sead_ray.stages.feed import AHEAD, DeviceFeed
from sead_ray.training.batch import BatchTargets, TrainingBatch

CPU = torch.device("cpu")


def batch(number: int) -> TrainingBatch:
    return TrainingBatch(
        images=torch.full((1, 1, 6, 2, 2, 3), number, dtype=torch.uint8),
        lidar2img=torch.zeros(1, 1, 6, 4, 4),
        can_bus=torch.zeros(1, 1, 18, dtype=torch.float64),
        valid_height=2,
        targets=BatchTargets.from_frames([random_targets(number)]),
        weight=float(number),
    )


def numbered(count: int, asked: list[int], fails_at: int | None = None) -> Iterator[TrainingBatch]:
    for number in range(count):
        if number == fails_at:
            raise InputError(f"image {number} is damaged.")
        asked.append(number)
        yield batch(number)


def test_batches_come_whole_and_in_order() -> None:
    with DeviceFeed(numbered(7, []), CPU) as feed:
        found = list(feed)
    assert [int(item.images.max()) for item in found] == list(range(7))
    assert [item.weight for item in found] == list(range(7))
    for item in found:
        assert all(torch.equal(a, b) for a, b in zip(item.tensors(), batch(int(item.weight)).tensors(), strict=True))


def test_an_error_is_raised_where_its_batch_would_have_been() -> None:
    with DeviceFeed(numbered(9, [], fails_at=3), CPU) as feed:
        stream = iter(feed)
        assert [next(stream).weight for _ in range(3)] == [0, 1, 2]
        with pytest.raises(InputError, match="image 3"):
            next(stream)


def test_only_a_few_are_ahead_and_an_early_end_stops_the_thread() -> None:
    before, asked = threading.active_count(), []
    with DeviceFeed(numbered(100, asked), CPU) as feed:
        next(iter(feed))
        time.sleep(0.2)
        assert len(asked) <= AHEAD + 2
    assert threading.active_count() == before
