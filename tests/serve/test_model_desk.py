"""A model's life in the service: promoted, tried, switched to, rolled back; what does not pass is never served."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from sead_ray.client import ScoringClient
from sead_ray.config import ModelConfig, ServeConfig
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.records import Clip, ClipScore
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from sead_ray.tokens import append_grant, new_token
from sead_ray.wire import ModelInfo
from serve.api import build_api
from serve.model_desk import ModelDesk
from serve.scorer import ModelRef, Scorer
from serve.shelf import Shelf


class LocalHost:
    """Models in this process."""

    def __init__(self) -> None:
        self.shelf = Shelf("cpu", keep=3)
        self.tried: list[str] = []

    async def try_out(self, ref: ModelRef, beside: ModelRef | None) -> ModelInfo:
        self.tried.append(ref.version)
        return await self.shelf.try_out(ref, beside)

    def bind(self, ref: ModelRef, info: ModelInfo) -> Scorer:
        shelf = self.shelf

        class Bound:
            async def info(self) -> ModelInfo:
                return info

            def keep(self, frame: Any) -> Any:
                return frame

            async def score(self, loaded: Any) -> Any:
                return await (await shelf.get(ref)).score(loaded)

            async def step(self, given: Any, history: Any) -> Any:
                return await (await shelf.get(ref)).step(given, history)

        return Bound()


@pytest.fixture
def run(served_run: Store, tmp_path: Path) -> Store:
    """Two published rounds, and a registry of its own."""
    run = Store(str(tmp_path / "run"))
    for number in (0, 1):
        _copy(served_run, run, number)
    return run


def _copy(source: Store, run: Store, number: int) -> None:
    for name in ("weights.safetensors", "model.json"):
        run.write_bytes(f"{layout.model(number)}/{name}", source.read_bytes(f"{layout.model(number)}/{name}"))
    run.publish(layout.model(number), {})


def versions(run: Store) -> list[str]:
    return [run.read_json(f"{layout.model(number)}/model.json")["model_version"] for number in (0, 1)]


@pytest.fixture
def serving(run: Store) -> Iterator[Callable[..., ScoringClient]]:
    opened: list[TestClient] = []

    def serve(host: LocalHost | None = None, **settings: Any) -> ScoringClient:
        config = ServeConfig(**{"run_dir": run.root, "follow_s": 0.02, **settings})
        http = TestClient(build_api(ModelDesk(host or LocalHost(), config), config))
        http.__enter__()
        opened.append(http)
        client = ScoringClient("", tries=200, first_wait_s=0.05, http=http)
        client.model()  # once it is loaded
        return client

    yield serve
    for http in opened:
        http.__exit__(None, None, None)


def wait_for(client: ScoringClient, version: str) -> None:
    deadline = time.monotonic() + 60
    while client.model().model_version != version:
        assert time.monotonic() < deadline, f"{version} is not switched to"
        time.sleep(0.02)


def calibrate(run: Store, version: str, sums: list[float], n: int = 3) -> None:
    rows = [
        ClipScore(str(i), version, "ok", n_frames=n + 1, shift_sum=v, shift_mean=v / n, n_transitions=n).to_row()
        for i, v in enumerate(sums)
    ]
    run.write_table(layout.calibration(version), rows, SCORE_SCHEMA)


def test_promotion_is_switched_to_and_rolled_back(run: Store, serving: Callable[..., ScoringClient]):
    first, second = versions(run)
    registry = Registry(run)
    registry.promote(layout.model(0))
    client = serving()
    assert client.model().model_version == first
    registry.promote(layout.model(1))
    wait_for(client, second)
    registry.roll_back()
    wait_for(client, first)


def test_what_it_began_with_can_be_rolled_back_to(run: Store, serving: Callable[..., ScoringClient]):
    client = serving()
    first, second = versions(run)
    assert client.model().model_version == second  # the newest round
    assert [line.action for line in Registry(run).history()] == ["start"]
    Registry(run).promote(layout.model(0))
    wait_for(client, first)
    Registry(run).roll_back()
    wait_for(client, second)


def test_follow_latest_takes_each_new_round_once(run: Store, served_run: Store, serving: Callable[..., ScoringClient]):
    client = serving(follow="latest")
    _copy(served_run, run, 2)
    third = run.read_json(f"{layout.model(2)}/model.json")["model_version"]
    wait_for(client, third)
    Registry(run).roll_back()
    wait_for(client, versions(run)[1])
    time.sleep(0.2)
    assert client.model().model_version == versions(run)[1]


def test_follow_off_stays(run: Store, serving: Callable[..., ScoringClient]):
    client = serving(follow="off")
    Registry(run).promote(layout.model(0))
    time.sleep(0.2)
    assert client.model().model_version == versions(run)[1]


@pytest.mark.parametrize("kind", ["nan", "zero", "missing", "damaged"])
def test_a_model_that_does_not_pass_is_never_served(
    run: Store, serving: Callable[..., ScoringClient], kind: str, clip: Clip, data_root: str
):
    host = LocalHost()
    client = serving(host)
    model = build_model(ModelConfig(preset="vad_nano", overrides=_small()))
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(torch.nan) if kind == "nan" else value.zero_()
    info = run.read_json(f"{layout.model(0)}/model.json")["info"]
    save_model(run, layout.model(2), model, info)
    run.publish(layout.model(2), {})
    if kind == "missing":
        run.remove(f"{layout.model(2)}/weights.safetensors")
    if kind == "damaged":
        run.write_bytes(f"{layout.model(2)}/weights.safetensors", b"no weights")
    bad = Registry(run).promote(layout.model(2)).model_version
    deadline = time.monotonic() + 60
    while bad not in host.tried:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    assert host.tried.count(bad) == 1  # not tried again and again
    assert client.score(clip, data_root).model_version == versions(run)[1]
    Registry(run).promote(layout.model(0))
    wait_for(client, versions(run)[0])


def publish_bad(run: Store) -> None:
    """Round 2: a model that sees no difference between frames."""
    model = build_model(ModelConfig(preset="vad_nano", overrides=_small()))
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    save_model(run, layout.model(2), model, run.read_json(f"{layout.model(0)}/model.json")["info"])
    run.publish(layout.model(2), {})


def test_a_service_whose_first_model_does_not_pass_recovers(run: Store):
    """Not ready, and saying so, until a good one is promoted."""
    publish_bad(run)
    host, config = LocalHost(), ServeConfig(run_dir=run.root, follow_s=0.02)
    with TestClient(build_api(ModelDesk(host, config), config)) as http:
        deadline = time.monotonic() + 60
        while "cannot be served" not in (detail := http.get("/readyz").json().get("detail", "")):
            assert time.monotonic() < deadline, detail
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(host.tried) == 1
        assert http.get("/v1/model").status_code == 503
        assert http.get("/healthz").status_code == 200
        Registry(run).promote(layout.model(0))
        while http.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert http.get("/v1/model").json()["model_version"] == versions(run)[0]
        assert http.post("/v1/models/roll_back").status_code == 409  # not back to that one
        assert http.get("/v1/model").json()["model_version"] == versions(run)[0]


def test_one_that_starts_after_a_bad_promotion_serves_the_one_before(run: Store, serving: Callable[..., ScoringClient]):
    publish_bad(run)
    for number in (0, 1, 2):
        Registry(run).promote(layout.model(number))
    host = LocalHost()
    client = serving(host)
    assert client.model().model_version == versions(run)[1]
    time.sleep(0.2)
    assert len(host.tried) == 2
    Registry(run).promote(layout.model(0))
    wait_for(client, versions(run)[0])


def _small() -> dict[str, Any]:
    return {"bev_h": 20, "bev_w": 10, "agent_queries": 20, "map_instances": 10, "embed_dims": 32, "ffn_dims": 64}


def test_percentile_and_decision(run: Store, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
    """Null until this very model has scored the calibration set; taken up while serving; of no other model."""
    first, second = versions(run)
    calibrate(run, first, [1.0, 2.0])
    client = serving(budget=0.25)
    before = client.score(clip, data_root)
    assert before.score is not None
    assert (before.percentile, before.decision, client.model().n_calibration_clips) == (None, None, 0)
    score = before.score
    calibrate(run, second, [score * factor for factor in (0.5, 0.6, 0.7, 0.8, 2.0)])
    deadline = time.monotonic() + 60
    while client.model().n_calibration_clips == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    after = client.score(clip, data_root)
    assert (after.percentile, after.decision, after.compared_by) == (80.0, "label", "sum")
    assert (after.budget, after.score) == (0.25, pytest.approx(score))
    with client.session() as session:  # of two frames so far: shorter than the calibration set's clips
        answers = [session.add(clip, index, data_root) for index in range(2)]
    assert (answers[0].decision, answers[1].compared_by) == (None, "mean")


def test_two_models_at_once(run: Store, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
    first, second = versions(run)
    client = serving(compare=[run.path(layout.model(0))])
    deadline = time.monotonic() + 60
    while [item.model_version for item in client.models()] != [second, first]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answers = [client.score(clip, data_root, model=name) for name in (None, first, second)]
    assert [answer.model_version for answer in answers] == [second, first, second]
    assert answers[0].score == answers[2].score != answers[1].score
    job = client.wait(client.submit([clip], data_root, model=first).job_id, poll_s=0.02)
    assert [item.answer.model_version for item in job.clips if item.answer] == [first]
    with client.session(model=first) as session:
        assert session.add(clip, 0, data_root).model_version == first
    response = client._http.post("/v1/score?model=nobody")
    assert (response.status_code, response.json()["field"]) == (404, "model")
    assert client._http.get("/v1/model?mode=x").status_code == 422


def test_a_session_keeps_its_model(run: Store, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
    first, second = versions(run)
    client = serving()
    with client.session(clip.clip_token) as session:
        answers = [session.add(clip, 0, data_root)]
        Registry(run).promote(layout.model(0))
        wait_for(client, first)
        answers += [session.add(clip, index, data_root) for index in range(1, 4)]
    assert {answer.model_version for answer in answers} == {second}


def test_promotion_over_http_needs_an_admin(run: Store, serving: Callable[..., ScoringClient], tmp_path: Path):
    tokens = {}
    for scope in ("score", "admin"):
        tokens[scope], grant = new_token(scope, scope)  # type: ignore[arg-type]
        append_grant(str(tmp_path / "t"), grant)
    first, second = versions(run)
    config = ServeConfig(run_dir=run.root, follow_s=0.02, tokens_file=str(tmp_path / "t"))
    with TestClient(build_api(ModelDesk(LocalHost(), config), config)) as http:
        ops = ScoringClient("", tokens["admin"], tries=200, first_wait_s=0.05, http=http)
        van = {"Authorization": f"Bearer {tokens['score']}"}
        assert ops.model().model_version == second
        for path in ("/v1/models/promote?round=0", "/v1/models/roll_back"):
            assert http.post(path).status_code == 401
            assert http.post(path, headers=van).status_code == 403
        assert ops.promote(0).model_version == first
        assert ops.roll_back().model_version == second
        for path, status in (("/v1/models/promote?round=7", 404), ("/v1/models/roll_back", 409)):
            assert http.post(path, headers=ops._headers).status_code == status
