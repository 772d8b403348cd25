"""How many workers a training may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sead_ray.config import RunConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.stages.train import train_model
from sead_ray.storage import Store


@pytest.mark.parametrize("value", [0, [0, 2], [3, 2], [1, 2, 3], [2], 1.5, "many", "[1,", True])
def test_what_is_no_number_of_workers_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="num_workers"):
        TrainConfig(num_workers=value)


def test_a_number_or_two_bounds_also_as_text() -> None:
    assert [TrainConfig(num_workers=value).num_workers for value in (4, "4", [2, 4], "[2, 4]")] == [
        4,
        4,
        [2, 4],
        [2, 4],
    ]
    assert [TrainConfig(num_workers=value).most_workers for value in (4, [2, 5])] == [4, 5]


@pytest.mark.usefixtures("ray_cluster")
def test_workers_without_a_sample_are_refused(tmp_path: Path) -> None:
    config = RunConfig(run_dir=str(tmp_path), train=TrainConfig(num_workers=[1, 9], global_batch=8))
    with pytest.raises(InputError, match="9 workers, but a batch has only the 8 samples"):
        train_model(Store(config.run_dir), config, 0, {"clip": [0, 1]})
