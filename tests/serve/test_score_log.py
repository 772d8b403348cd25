"""jobs.score_log: scenes of a nuScenes folder through the client to a service, and on from where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from jobs.score_log import ScoreLogConfig, job, plan
from jobs.service import TOKEN_VARIABLE, service_client
from sead_ray.client import ScoringClient
from sead_ray.config import DataConfig, ServeConfig
from sead_ray.errors import InputError
from serve.api import build_api
from serve.models import OneModel
from serve.scorer import LocalScorer


@pytest.fixture
def service(model_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The job's client talks to a service in this process."""
    with TestClient(build_api(OneModel(LocalScorer(model_dir, "cpu")), ServeConfig())) as http:
        monkeypatch.setattr("jobs.score_log.service_client", lambda _: _kept(http))
        yield


def _kept(http: TestClient) -> ScoringClient:
    client = ScoringClient("", http=http)
    client.close = lambda: None  # type: ignore[method-assign]  # the next command uses it too
    return client


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_way_gives_the_same_and_a_second_command_goes_on(service: None, tiny_world: str, tmp_path: Path):
    data = DataConfig(root=tiny_world)
    name = json.loads((Path(tiny_world) / data.version / "scene.json").read_text())[0]["name"]
    got = {}
    for via in ("score", "job", "session"):
        output = tmp_path / f"{via}.jsonl"
        config = ScoreLogConfig(data=data, scene=name, via=via, output=str(output))
        assert plan(config).startswith("Would send 1 of 1 scene(s)")
        assert job(config).startswith("1 scene(s) sent, 0 without a score, 0 known before")
        (got[via],) = lines(output)
        output.write_text(output.read_text() + '{"clip_tok')  # killed while it wrote
        assert job(config).startswith("0 scene(s) sent, 0 without a score, 1 known before")
        assert len(lines(output)) == 1
    assert got["score"]["n_frames"] == 8
    for via in ("job", "session"):
        assert got[via]["score"] == pytest.approx(got["score"]["score"], rel=1e-5)
        assert {*got[via], "intake"} == set(got["score"])  # which takes only what is sent to /v1/score


def test_a_service_that_is_away_and_a_file_of_others(tiny_world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = DataConfig(root=tiny_world)
    monkeypatch.setattr("jobs.score_log.service_client", lambda url: ScoringClient(url, tries=1))
    with pytest.raises(InputError, match=r"^The service at http://127\.0\.0\.1:9 cannot be reached"):
        job(ScoreLogConfig(data=data, url="http://127.0.0.1:9", output=str(tmp_path / "o")))
    (tmp_path / "o").write_text("hello\n")
    with pytest.raises(InputError, match="not a file of this command"):
        plan(ScoreLogConfig(data=data, output=str(tmp_path / "o")))


def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "sead_x")
    with service_client("http://127.0.0.1:9") as client:
        assert client._headers == {"Authorization": "Bearer sead_x"}
