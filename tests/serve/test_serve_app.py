"""The service as `serve run` starts it: builder arguments, two deployments, HTTP."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import ray
import yaml
from pydantic import ValidationError
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

from sead_ray.client import ScoringClient, clip_part, clip_request, score_clip
from sead_ray.config import DataConfig, ImageConfig, RunConfig, ScoreConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import load_model
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.registry import Registry
from sead_ray.stages.score import read_scores, score_loaded_clips, score_pool
from sead_ray.storage import Store
from sead_ray.tokens import append_grant, new_token
from serve.app import build
from serve.scorer import find_model, model_info

LIMIT_BYTES = 2**20


class TestPickingTheModel:
    def test_newest_published_round(self, served_run: Store):
        assert find_model(ServeConfig(run_dir=served_run.root)) == served_run.path(layout.model(1))

    def test_a_models_folder(self, model_dir: str):
        assert find_model(ServeConfig(model_dir=model_dir)) == model_dir

    @pytest.mark.parametrize("args", [{}, {"run_dir": "a", "model_dir": "b"}])
    def test_one_of_two_is_needed(self, args: dict[str, str]):
        with pytest.raises(InputError, match=r"^Set run_dir .* or model_dir .*\.$"):
            find_model(ServeConfig(**args))

    def test_nothing_there(self, tmp_path: Path, served_run: Store):
        with pytest.raises(InputError, match="no published model"):
            find_model(ServeConfig(run_dir=str(tmp_path)))
        with pytest.raises(InputError, match=r"model\.json does not exist"):
            find_model(ServeConfig(model_dir=str(tmp_path)))

    def test_a_card_without_settings(self, tmp_path: Path):
        with pytest.raises(InputError, match=r"cannot be served: its info needs"):
            model_info({"model_version": "v", "size": {"preset": "vad_nano"}, "info": {}}, 1, str(tmp_path))

    def test_the_builder_says_it_in_one_sentence(self):
        with pytest.raises(click.ClickException, match=r"^Set run_dir .*\.$"):
            build(ServeConfig())

    def test_builder_arguments_are_typed(self):
        """Serve reads the annotation: a string would leave the arguments an unchecked dict."""
        (parameter,) = inspect.signature(build).parameters.values()
        assert parameter.annotation is ServeConfig
        with pytest.raises(ValidationError, match="surprise"):
            call_user_app_builder_with_args_if_necessary(build, {"run_dir": "x", "surprise": "1"})

    def test_config_file_is_one_that_serve_deploy_takes(self, repository: Path):
        config = ServeDeploySchema.model_validate(yaml.safe_load((repository / "serve" / "config.yaml").read_text()))
        (application,) = config.applications
        assert application.import_path == "serve.app:build"
        assert ServeConfig(**application.args).run_dir == "runs/demo"


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tokens") / "tokens.txt")


@pytest.fixture(scope="module")
def token(tokens_file: str) -> str:
    made, grant = new_token("score", "van")
    append_grant(tokens_file, grant)
    return made


@pytest.fixture(scope="module")
def service(ray_cluster: None, served_run: Store, tokens_file: str, token: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    arguments = {"run_dir": served_run.root, "max_body_bytes": str(LIMIT_BYTES), "ingress_cpus": "0.2"}
    arguments["tokens_file"] = tokens_file
    app = call_user_app_builder_with_args_if_necessary(build, {**arguments, "cpus_per_replica": "0.2"})
    serve.run(app, name="sead_ray", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def ask(service: str, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        yield client


class TestService:
    def test_healthy_and_knows_its_model(self, service: str, ask: httpx.Client, served_run: Store):
        assert httpx.get(f"{service}/healthz", timeout=30).json() == {"status": "ok"}
        got = ask.get("/v1/model").json()
        card = served_run.read_json(f"{layout.model(1)}/model.json")
        assert (got["model_version"], got["round"]) == (card["model_version"], 1)

    def test_scores_as_this_process_does(self, service: str, token: str, clip: Clip, data_root: str, served_run: Store):
        model, card = load_model(served_run, layout.model(1))
        loaded = load_clip(clip, data_root, ImageConfig(**card["info"]["image"]))
        (expected,) = score_loaded_clips(model, card["model_version"], [loaded], "cpu", ScoreConfig())
        got = score_clip(service, clip, data_root, token=token)
        assert got["score"] == pytest.approx(expected.shift_sum, rel=1e-6)
        assert got["is_key"] == expected.is_key

    def test_the_same_score_by_every_way(self, service: str, clip: Clip, data_root: str, served_run: Store, token: str):
        """Through the service at once, as a job, frame by frame, and by `jobs.score_pool`'s stage."""
        served_run.write_table(layout.CLIPS_FILE, [clip.to_row()], CLIP_SCHEMA)
        config = RunConfig(run_dir=served_run.root, data=DataConfig(root=data_root), image=ImageConfig(width=160))
        score_pool(served_run, config, 2, layout.model(1), set())
        pool = read_scores(served_run, 2)[clip.clip_token]
        assert pool.status == "ok"
        with ScoringClient(service, token) as client:
            answers: list[Any] = [client.score(clip, data_root)]
            answers += [item.answer for item in client.wait(client.submit([clip], data_root).job_id, poll_s=0.1).clips]
            with client.session(clip.clip_token) as session:
                frames = [session.add(clip, index, data_root) for index in range(len(clip.frames))]
            answers.append(frames[-1])
        for answer in answers:
            assert answer.score == pytest.approx(pool.shift_sum, rel=1e-5)
            assert answer.shift_agents == pytest.approx(pool.shift_agents, rel=1e-5)
            assert answer.shift_map == pytest.approx(pool.shift_map, rel=1e-5)
            assert (answer.is_key, answer.model_version) == (pool.is_key, pool.model_version)

    def test_switched_and_rolled_back(self, service: str, token: str, clip: Clip, data_root: str, served_run: Store):
        """Requests go on meanwhile: each is answered, by one model, with that model's score."""
        registry, seen, stop = Registry(served_run), [], threading.Event()
        first, second = (served_run.read_json(f"{layout.model(n)}/model.json")["model_version"] for n in (1, 0))

        def send() -> None:
            while not stop.is_set():
                answer = score_clip(service, clip, data_root, token=token)
                seen.append((answer["model_version"], round(answer["score"], 4)))

        def wait_for(version: str) -> None:
            with ScoringClient(service, token) as client:
                deadline = time.monotonic() + 90
                while client.model().model_version != version:
                    assert time.monotonic() < deadline, f"{version} is not switched to"
                    time.sleep(0.2)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            registry.promote(layout.model(0))
            wait_for(second)
            registry.roll_back()
            wait_for(first)
        finally:
            stop.set()
            sender.join()
        assert {version for version, _ in seen} <= {first, second}
        assert len(set(seen)) == len({version for version, _ in seen})

    def test_tokens(self, service: str, token: str):
        assert httpx.get(f"{service}/v1/model", timeout=30).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(f"{service}/v1/jobs", headers=headers, timeout=30).status_code == 403
        assert httpx.get(f"{service}/readyz", timeout=30).status_code == 200

    def test_clips_sent_at_once_do_not_mix(
        self, service: str, token: str, clip: Clip, clip_without_can: Clip, data_root: str
    ):
        alone = [score_clip(service, mine, data_root, token=token)["score"] for mine in (clip, clip_without_can)]
        assert alone[0] != alone[1]
        together: list[Any] = [None] * 4

        def send(index: int) -> None:
            together[index] = score_clip(service, (clip, clip_without_can)[index % 2], data_root, token=token)["score"]

        threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == pytest.approx(alone * 2, rel=1e-6)

    def test_errors_reach_the_client(self, service: str, ask: httpx.Client, clip: Clip, data_root: str):
        _, files = clip_request(clip, data_root)
        text = '{"frames": NaN}'
        response = ask.post("/v1/score", files=[("clip", (None, text, "application/json")), *files])
        assert (response.status_code, response.json()["field"]) == (422, "frames")
        large = [("images", ("a.jpg", bytes(LIMIT_BYTES + 1), "image/jpeg"))]
        response = ask.post("/v1/score", files=large)
        assert (response.status_code, response.json()["field"]) == (413, "body")
        assert httpx.get(f"{service}/v1/nothing", timeout=30).json()["field"] is None

    def test_the_client_raises_the_services_sentence(self, service: str, token: str, clip: Clip, data_root: str):
        backwards = Clip(**{**vars(clip), "frames": clip.frames[::-1]})
        with pytest.raises(InputError, match=r"Time does not go forward at frame 1"):
            score_clip(service, backwards, data_root, token=token)

    def test_a_lost_model_comes_back(self, service: str, ask: httpx.Client, token: str, clip: Clip, data_root: str):
        """Until then the service says 503, never a trace; afterwards it gives the same score."""
        before = score_clip(service, clip, data_root, token=token)["score"]
        names = [item["name"] for item in ray.util.list_named_actors(all_namespaces=True)]
        (replica,) = [name for name in names if "#Model#" in name]
        ray.kill(ray.get_actor(replica, namespace="serve"))
        statuses, deadline = [], time.monotonic() + 120
        while True:
            body, files = clip_request(clip, data_root)
            response = ask.post("/v1/score", files=[clip_part(body), *files])
            statuses.append(response.status_code)
            if response.status_code == 200 or time.monotonic() > deadline:
                break
            assert "Traceback" not in response.text
            time.sleep(0.5)
        assert set(statuses) <= {503, 200}
        assert response.json()["score"] == pytest.approx(before, rel=1e-6)
