"""One tiny world, one prepared run and one Ray for the whole session: each costs seconds to start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch and Ray come in: two cores are shared by all of Ray's processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")  # as `connect` does

# Ray's workers inherit these when it starts, so the port of the S3 server on loopback is chosen before.
with socket.socket() as _probe:
    _probe.bind(("127.0.0.1", 0))
    S3_PORT = _probe.getsockname()[1]
os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{S3_PORT}", "AWS_DEFAULT_REGION": "us-east-1"}
os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

from sead_ray.config import DataConfig, ImageConfig, ModelConfig, RunConfig, ScoreConfig, TrainConfig, WorldConfig
from sead_ray.stages.prepare import prepare
from sead_ray.storage import Store
from sead_ray.synthetic import generate_world


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strategy",
        action="append",
        help="module:function: run the strategies' common tests on it (test_strategies.py)",
    )


TINY_WORLD = WorldConfig(scenes=12, frames=8, image_width=160, image_height=90, val_share=0.25, seed=3)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a generated nuScenes folder: 12 scenes x 8 frames at 160x90, 3 of them val."""
    root = tmp_path_factory.mktemp("world") / "nuscenes"
    generate_world(TINY_WORLD, str(root), processes=2)
    return str(root)


@pytest.fixture(scope="session")
def tiny_config(tiny_world: str, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A configuration small enough to train and score within seconds; `run_dir` is the session's prepared run."""
    return RunConfig(
        run_dir=str(tmp_path_factory.mktemp("runs") / "tiny"),
        seed=1,
        data=DataConfig(root=tiny_world),
        image=ImageConfig(width=160),
        model=ModelConfig(preset="vad_nano"),
        train=TrainConfig(epochs=1, global_batch=4, learning_rate=1e-3),
        score=ScoreConfig(clips_per_batch=2, no_progress_timeout_s=240),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config: RunConfig, ray_cluster: None) -> Store:
    """The run folder with clips and labels published; read it, do not write into it."""
    run = Store(tiny_config.run_dir)
    prepare(run, tiny_config)
    return run


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # tests read what jobs print
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_bucket() -> Iterator[str]:
    """URI of a bucket on a server that speaks S3's API."""
    import logging

    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=S3_PORT, verbose=False)
    server.start()
    boto3.client("s3").create_bucket(Bucket="sead")
    yield "s3://sead"
    server.stop()


@pytest.fixture(scope="session")
def s3_world(tiny_world: str, s3_bucket: str) -> str:
    """URI of the tiny world in the bucket."""
    import pyarrow.fs as pafs

    pafs.copy_files(tiny_world, f"{s3_bucket}/nuscenes")
    return f"{s3_bucket}/nuscenes"


@pytest.fixture
def repository() -> Path:
    return Path(__file__).parent.parent
