"""How long a training runs, and who gets which sample."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sead_ray.config import DataConfig, RunConfig, SelectConfig, TrainConfig, WorldConfig
from sead_ray.errors import InputError
from sead_ray.stages import layout
from sead_ray.stages.plan import describe_plan, require_prepared
from sead_ray.stages.train import schedule
from sead_ray.stages.train_loop import shard
from sead_ray.storage import Store


@pytest.mark.parametrize(
    ("samples", "settings", "steps_per_epoch", "epochs"),
    [
        (80, {}, 10, 20),
        (81, {}, 11, 20),
        (1, {}, 1, 20),
        (1, {"epochs": 1}, 1, 1),
        (1, {"epochs": 1, "min_steps": 60}, 1, 60),
        (81, {"epochs": 1, "min_steps": 23}, 11, 3),
        (81, {"min_steps": 1}, 11, 20),
        (80, {"max_steps": 55}, 10, 5),
        (80, {"max_steps": 10}, 10, 1),
        (80, {"max_steps": 1000}, 10, 20),
        (80, {"max_steps": 3}, 3, 1),
        (80, {"epochs": 1, "min_steps": 90, "max_steps": 45}, 10, 4),
    ],
)
def test_schedule_by_hand(samples: int, settings: dict[str, int], steps_per_epoch: int, epochs: int) -> None:
    plan = schedule(samples, TrainConfig(**settings))
    assert (plan.steps_per_epoch, plan.epochs) == (steps_per_epoch, epochs)
    assert plan.total_steps == steps_per_epoch * epochs
    assert plan.samples == samples


@given(
    st.integers(1, 5000), st.integers(1, 64), st.integers(1, 50), st.integers(0, 500), st.none() | st.integers(1, 500)
)
def test_schedule_keeps_its_bounds(samples: int, batch: int, epochs: int, least: int, most: int | None) -> None:
    config = TrainConfig(global_batch=batch, epochs=epochs, min_steps=least, max_steps=most)
    plan = schedule(samples, config)
    assert plan.epochs >= 1
    assert plan.steps_per_epoch <= math.ceil(samples / batch)
    if most is None:
        assert plan.total_steps >= least
        assert plan.epochs >= epochs
        assert plan.steps_per_epoch * batch >= samples
    else:
        assert 1 <= plan.total_steps <= most


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(InputError, match="no labelled frame"):
        schedule(0, TrainConfig())


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 12))
def test_over_all_ranks_every_sample_comes_exactly_once(samples: int, batch: int, world: int) -> None:
    order = list(range(1000, 1000 + samples))[::-1]
    steps = math.ceil(samples / batch)
    for step in range(steps):
        parts = [shard(order, step, batch, rank, world) for rank in range(world)]
        together = sorted(index for part in parts for index in part)
        assert together == sorted(order[step * batch : (step + 1) * batch])
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    seen = [index for step in range(steps) for rank in range(world) for index in shard(order, step, batch, rank, world)]
    assert sorted(seen) == sorted(order)


def test_one_process_gets_the_batch_in_order_and_a_short_last_one_leaves_ranks_empty() -> None:
    order = [4, 2, 0, 1, 3]
    assert [shard(order, step, 2, 0, 1) for step in range(3)] == [[4, 2], [0, 1], [3]]
    assert [shard(order, 2, 2, rank, 2) for rank in range(2)] == [[3], []]


def test_the_plan_of_a_prepared_run(tmp_path) -> None:
    facts = {"pool_clips": 20, "pool_frames": 200, "val_clips": 5, "val_frames": 50}
    run = Store(str(tmp_path))
    run.publish(layout.CLIPS, facts)
    run.publish(layout.evaluation(0), {})
    config = RunConfig(run_dir=str(tmp_path), train=TrainConfig(epochs=2, global_batch=8))
    lines = describe_plan(config).splitlines()
    assert "20 clips, 200 frames; val: 5 clips" in lines[1]
    rows = [[int(word) for word in line.split()] for line in lines[3:6]]
    # round, new clips, clips, frames, steps of two epochs, clips to score
    assert rows == [[0, 2, 2, 20, 6, 0], [1, 2, 4, 40, 10, 18], [2, 2, 6, 60, 16, 16]]
    assert lines[6] == "Rounds already done: 0."
    random = config.model_copy(update={"select": SelectConfig(incremental="random")})
    assert [line.split()[-1] for line in describe_plan(random).splitlines()[3:6]] == ["0", "0", "0"]


def test_the_plan_before_the_world_is_generated(tmp_path) -> None:
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        data=DataConfig(root=str(tmp_path / "data")),
        world=WorldConfig(generate=True, scenes=10, frames=8),
    )
    assert "Pool: 8 clips, 64 frames; val: 2 clips (to be generated)." in describe_plan(config)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_clips_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match=r"jobs\.prepare_clips"):
        require_prepared(Store(str(tmp_path)))
