"""Trackers: each holds what it was told, and telling twice does no harm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import RunConfig, TrackConfig
from sead_ray.errors import InputError
from sead_ray.stages.track import Tracking, flat, tell_live
from sead_ray.storage import Store
from sead_ray.tracking import Checkpoint, RoundRecord, open_trackers

RECORD = RoundRecord(
    number=1,
    checkpoint=Checkpoint("/runs/a/rounds/01/model", "abc123", {"model.json": "00", "weights.safetensors": "ff"}),
    steps=[(10, {"train/loss": 2.5, "train/lr": 1e-3}), (20, {"train/loss": 1.5, "train/lr": 5e-4})],
    metrics={"eval/l2_m_avg": 0.75, "bought/frames": 40.0},
)
PARAMS = flat(RunConfig(seed=7).model_dump(mode="json"))


def told(run: Store, config: TrackConfig, record: RoundRecord = RECORD) -> None:
    for tracker in open_trackers(run, config):
        tracker.params(PARAMS)
        tracker.round(record)
        tracker.close()


def test_settings_are_flat_and_plain() -> None:
    assert PARAMS["seed"] == 7
    assert PARAMS["train.epochs"] == 20
    assert json.loads(PARAMS["select.rounds"]) == [0.1, 0.2, 0.3]
    assert all(value is None or isinstance(value, (str, int, float)) for value in PARAMS.values())


def test_json_lines_are_the_default(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    told(run, TrackConfig())
    told(run, TrackConfig())
    rows = [json.loads(line) for line in run.read_bytes("tracking/round_01.jsonl").decode().splitlines()]
    assert [(row["kind"], row["round"]) for row in rows] == [("step", 1), ("step", 1), ("round", 1), ("checkpoint", 1)]
    assert rows[1] == {"round": 1, "kind": "step", "step": 20, "train/loss": 1.5, "train/lr": 5e-4}
    assert rows[2]["eval/l2_m_avg"] == 0.75
    assert rows[3]["files"]["weights.safetensors"] == "ff"
    assert run.read_json("tracking/params.json")["seed"] == 7


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = TrackConfig(to=["tensorboard"])
    told(Store(str(tmp_path)), config, replace(RECORD, number=0, metrics={"eval/l2_m_avg": 1.5}))
    told(Store(str(tmp_path)), config)
    told(Store(str(tmp_path)), config)
    curves = EventAccumulator(str(tmp_path / "tensorboard" / "round_01")).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("train/loss")] == [(10, 2.5), (20, 1.5)]
    rounds = EventAccumulator(str(tmp_path / "tensorboard" / "rounds")).Reload()
    assert [(event.step, event.value) for event in rounds.Scalars("eval/l2_m_avg")] == [(0, 1.5), (1, 0.75)]


def test_tensorboard_of_a_bucket_needs_a_folder() -> None:
    with pytest.raises(InputError, match=r"track\.tensorboard_dir"):
        open_trackers(Store("s3://bucket/run"), TrackConfig(to=["tensorboard"]))


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sead_ray.tracking.mlflow", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    with pytest.raises(InputError, match=r"track\.to names mlflow, which is not installed"):
        open_trackers(Store(str(tmp_path)), TrackConfig(to=["mlflow"]))


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """URI of a real server on SQLite."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = os.environ.get("SEAD_MLFLOW", f"{sys.executable} -m mlflow").split()
    arguments = ["server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--port", str(port)]
    server = subprocess.Popen([*command, *arguments, "--artifacts-destination", str(tmp_path / "artifacts")])
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(port: int, server: Any) -> None:
    import httpx

    for _ in range(240):
        assert server.poll() is None
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError("mlflow's server does not answer")


def test_mlflow_holds_one_run_a_folder(tmp_path: Path, mlflow_server: str) -> None:
    from mlflow.tracking import MlflowClient

    run = Store(str(tmp_path / "run"))
    run.write_bytes("rounds/01/model/model.json", b"{}")
    run.write_bytes("rounds/01/model/weights.safetensors", b"weights")
    record = RoundRecord(
        1,
        Checkpoint(run.path("rounds/01/model"), "abc123", RECORD.checkpoint.files),
        RECORD.steps,
        RECORD.metrics,
    )
    config = TrackConfig(to=["mlflow"], mlflow_uri=mlflow_server, experiment="tests", upload_models=True)
    (live,) = open_trackers(run, config)
    live.live(1, 5, {"train/loss": 3.0})
    told(run, config, record)
    told(run, config, record)
    client = MlflowClient(mlflow_server)
    (found,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "20"
    assert found.data.metrics["eval/l2_m_avg"] == 0.75
    history = client.get_metric_history(found.info.run_id, "round_01/train/loss")
    assert {(item.step, item.value) for item in history} == {(10, 2.5), (20, 1.5)}
    assert found.data.metrics["round_01/live/train/loss"] == 3.0
    assert found.data.tags["checkpoint.round_01"].startswith("abc123 ")
    names = {item.path for item in client.list_artifacts(found.info.run_id, "checkpoints/round_01")}
    assert "checkpoints/round_01/weights.safetensors" in names


class _Gone:
    name = "gone"

    def params(self, *_: Any) -> None:
        raise ConnectionError("nobody answers")

    live = round = close = params


def test_a_tracker_that_fails_costs_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Store(str(tmp_path))
    run.publish("rounds/00/evaluation", {})
    with Tracking(run, RunConfig()) as tracking:
        tracking._trackers = [_Gone()]
        tracking.tell()
        tracking.tell()
    said = capfd.readouterr().err
    assert said.count("gone could not be told (nobody answers); the run goes on") == 1
    assert not run.exists("tracking/told.json")  # told again next time


class _Slow:
    name = "slow"

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, dict[str, float]]] = []
        self.told = threading.Event()

    def params(self, *_: Any) -> None:
        pass

    round = close = params

    def live(self, number: int, step: int, values: dict[str, float]) -> None:
        time.sleep(0.05)
        self.heard.append((number, step, values))
        self.told.set()


def test_a_training_is_followed_live_and_waits_for_nobody(tmp_path: Path) -> None:
    tracker = _Slow()
    tell_live(0, 1, {"train/loss": 2.0})  # without a driver's tracking: nothing
    with Tracking(Store(str(tmp_path)), RunConfig()) as tracking:
        tracking._trackers = [tracker]
        started = time.monotonic()
        for step in range(1000):
            tell_live(3, step, {"train/loss": 1.0 / (step + 1)})
        assert time.monotonic() - started < 1
        assert tracker.told.wait(10)
    assert tracker.heard[0] == (3, 0, {"train/loss": 1.0})


def test_live_curves_make_room_for_the_rounds(tmp_path: Path) -> None:
    (tracker,) = open_trackers(Store(str(tmp_path)), TrackConfig(to=["tensorboard"]))
    tracker.live(1, 5, {"train/loss": 3.0})
    assert (tmp_path / "tensorboard" / "live_round_01").is_dir()
    tracker.round(RECORD)
    assert not (tmp_path / "tensorboard" / "live_round_01").exists()
    tracker.close()
