"""The `Model` deployment by Serve's local testing mode: the same code in this process, without Ray's processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from ray import serve

from sead_ray.client import ScoringClient
from sead_ray.config import ServeConfig
from sead_ray.records import Clip, ClipScore
from sead_ray.stages import layout
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from serve.api import build_api
from serve.app import Model, RemoteHost, build
from serve.model_desk import ModelDesk
from tests.serve.ways import assert_same


@pytest.fixture
def run(served_run: Store, tmp_path: Path) -> Store:
    run = Store(str(tmp_path / "run"))
    for number in (0, 1):
        for name in ("weights.safetensors", "model.json"):
            key = f"{layout.model(number)}/{name}"
            run.write_bytes(key, served_run.read_bytes(key))
        run.publish(layout.model(number), {})
    return run


@pytest.fixture
def client(run: Store) -> Iterator[ScoringClient]:
    config = ServeConfig(run_dir=run.root, follow_s=0.1)
    handle = serve.run(Model.bind(config.model_dump(), "cpu"), _local_testing_mode=True)
    with TestClient(build_api(ModelDesk(RemoteHost(handle, keep=_as_it_is), config), config)) as http:
        client = ScoringClient("", tries=300, first_wait_s=0.1, http=http)
        client.model()
        yield client


def _as_it_is(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Serve's local testing resolves no references, whether or not Ray runs."""
    return frame


def wait_for(client: ScoringClient, version: str) -> None:
    deadline = time.monotonic() + 90
    while client.model().model_version != version:
        assert time.monotonic() < deadline, f"{version} is not switched to"
        time.sleep(0.05)


def test_scored_switched_rolled_back(
    client: ScoringClient, run: Store, clip: Clip, data_root: str, expected: ClipScore
):
    first, second = (run.read_json(f"{layout.model(n)}/model.json")["model_version"] for n in (0, 1))
    before = client.score(clip, data_root)
    assert_same(before, expected)
    seconds = before.seconds
    assert min(seconds.upload, seconds.validation, seconds.decode, seconds.model, seconds.shift) > 0
    Registry(run).promote(layout.model(0))
    wait_for(client, first)
    other = client.score(clip, data_root)
    assert (other.model_version, before.model_version) == (first, second)
    assert other.score != before.score
    Registry(run).roll_back()
    wait_for(client, second)
    assert_same(client.score(clip, data_root), expected)


def test_autoscaling_is_what_was_asked_for(run: Store):
    fixed, scaled = (
        build({"run_dir": run.root, **args})
        for args in ({"replicas": 2}, {"replicas": 0, "max_replicas": 3, "max_batch_clips": 4})
    )
    assert _model(fixed).num_replicas == 2
    scaling = _model(scaled)._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.initial_replicas) == (0, 3, 1)
    assert scaling.target_ongoing_requests == 4
    for args in ({"replicas": 0}, {"replicas": 3, "max_replicas": 2}):
        with pytest.raises(ValueError, match="replicas"):
            ServeConfig(run_dir=run.root, **args)


def _model(application: serve.Application):
    (bound, *_) = application._bound_deployment.init_args
    return bound._bound_deployment
