"""How many workers an elastic training asks for."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.elastic import ElasticPolicy, matches
from sead_ray.stages.score import pool_tokens
from sead_ray.stages.train import train_model
from sead_ray.storage import Store
from tests.stages.free_cpus import wait_until_free

NODE = {"ray.io/accelerator-type": "H100", "zone": "a"}


@pytest.mark.parametrize(
    ("selector", "is_meant"),
    [
        ({}, True),
        ({"zone": "a"}, True),
        ({"zone": "b"}, False),
        ({"zone": "!b"}, True),
        ({"zone": "!a"}, False),
        ({"ray.io/accelerator-type": "in(A100, H100)"}, True),
        ({"ray.io/accelerator-type": "!in(A100,H100)"}, False),
        ({"zone": "a", "ray.io/accelerator-type": "in(A100)"}, False),
        ({"rack": "7"}, False),
        ({"rack": "!7"}, True),
    ],
)
def test_a_selector_means_the_nodes_that_rays_own_does(selector: dict[str, str], is_meant: bool) -> None:
    assert matches(NODE, selector) is is_meant


def test_what_cannot_start_is_counted_anew_and_then_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = {"a": 4.0}
    monkeypatch.setattr(ElasticPolicy, "_maybe_send_resource_request", lambda _: None)
    monkeypatch.setattr(ElasticPolicy, "_get_reserved_resources", lambda _: {"a": {"CPU": cpus["a"]}})
    scaling: Any = ray.train.ScalingConfig(
        num_workers=(1, 4), resources_per_worker={"CPU": 1}, elastic_resize_monitor_interval_s=0
    )
    policy = ElasticPolicy(scaling, {})
    start = policy.make_decision_for_non_running_worker_group

    def resized(workers: int) -> int | None:
        state = SimpleNamespace(start_time=0.0, num_workers=workers)
        return getattr(policy.make_decision_for_running_worker_group(state, None), "num_workers", None)

    assert start().num_workers == 4
    cpus["a"] = 3.0  # a node had died
    assert start().num_workers == 3
    assert start().num_workers == 1  # the count is the same, and was wrong
    assert resized(1) is None  # not yet
    policy._content_until = 0.0
    assert resized(1) == 3
    assert start().num_workers == 1
    assert resized(1) is None


@ray.remote(num_cpus=1)
class Other:
    """Of another job: holds a CPU that the cluster has."""

    def is_there(self) -> bool:
        return True


def test_a_training_begins_with_fewer_where_others_hold_what_was_counted(
    tiny_run: Store, tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "4")
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS):
        shutil.copytree(tiny_run.path(folder), run.path(folder))
    changes = {"num_workers": [1, 2], "resize_every_s": 0.1, "max_steps": 3, "no_progress_timeout_s": 120}
    train = tiny_config.train.model_copy(update=changes)
    config = tiny_config.model_copy(update={"run_dir": run.root, "train": train})
    wait_until_free()
    other = Other.remote()
    assert ray.get(other.is_there.remote())
    train_model(run, config, 0, {token.as_py(): list(range(8)) for token in pool_tokens(run)[:2]})
    ray.kill(other)
    assert run.manifest(layout.model(0))["steps"] == 3
