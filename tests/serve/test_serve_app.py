"""The service as `serve run` starts it: two deployments, Serve's own proxy, HTTP."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray
from ray import serve
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

from sead_ray.client import ScoringClient, clip_part, clip_request, score_clip
from sead_ray.config import DataConfig, ImageConfig, RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import load_model
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.stages.registry import Registry
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.storage import Store
from sead_ray.tokens import append_grant, new_token
from serve.app import build
from tests.serve.hostile_uploads import all_uploads
from tests.serve.over_sockets import longer, refused, replica, resident_mib, sent, slow_body, status_of

LIMIT_BYTES = 2**22
ADMITTED = 4  # two batches of two clips
ROUNDS = int(os.environ.get("SEAD_HOSTILE_ROUNDS", "1"))  # of all hostile uploads


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("tokens") / "tokens.txt")


@pytest.fixture(scope="module")
def token(tokens_file: str) -> str:
    made, grant = new_token("score", "van")
    append_grant(tokens_file, grant)
    return made


@pytest.fixture(scope="module")
def service(ray_cluster: None, served_run: Store, data_root: str, tokens_file: str, token: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    arguments: dict[str, Any] = {"run_dir": served_run.root, "max_body_bytes": str(LIMIT_BYTES), "ingress_cpus": "0.2"}
    arguments |= {"tokens_file": tokens_file, "body_timeout_s": "10", "storage_prefixes": [data_root]}
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

    def test_a_revoked_token_stops_within_five_seconds(self, service: str, tokens_file: str, token: str):
        before = Path(tokens_file).read_text()
        revoked, grant = new_token("score", "stolen")
        append_grant(tokens_file, grant)

        def waited_s(status: int) -> float:
            started = time.monotonic()
            headers = {"Authorization": f"Bearer {revoked}"}
            while httpx.get(f"{service}/v1/model", headers=headers, timeout=30).status_code != status:
                assert time.monotonic() - started < 30
                time.sleep(0.05)
            return time.monotonic() - started

        waited_s(200)
        Path(tokens_file).write_text(before)
        assert waited_s(401) < 5
        with ScoringClient(service, token) as client:  # and only that one
            client.model()

    def test_work_of_clients_that_went_away_is_dropped(self, service: str, token: str, clip: Clip, data_root: str):
        """As much as the service admits, left alone once it is at work: others do not wait until it were done."""
        long = longer(clip, 50)
        started = time.monotonic()
        score_clip(service, long, data_root, token=token)
        long_s = time.monotonic() - started

        def score() -> int:
            body, files = clip_request(clip, data_root)
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.post(
                f"{service}/v1/score", headers=headers, files=[clip_part(body), *files], timeout=60
            ).status_code

        sockets = [sent(service, token, long, data_root) for _ in range(ADMITTED)]
        time.sleep(0.4 * long_s)
        assert score() == 429
        for connection in sockets:
            connection.close()
        started = time.monotonic()
        while score() != 200:
            time.sleep(0.02)
        assert time.monotonic() - started < 0.8 * long_s  # two calls of two of them each would take more than twice it

    def test_hostile_uploads_leave_memory_flat(
        self, service: str, ask: httpx.Client, clip: Clip, data_root: str, make_jpeg: Callable[..., bytes]
    ):
        slow = [slow_body(service, ask) for _ in range(8)]
        uploads = list(all_uploads(clip, data_root, make_jpeg(np.random.default_rng(1))))
        assert len(uploads) >= 500
        for upload in uploads[::5]:  # what is loaded and cached with the first of a kind
            refused(ask, upload)
        for number in range(ROUNDS):
            before = resident_mib()
            for upload in uploads:
                refused(ask, upload)
            grown = {name: round(after - before[name], 1) for name, after in resident_mib().items()}
            print(f"round {number}: {len(uploads)} hostile uploads, MiB grown: {grown}, of {before}")
            assert max(grown.values()) < 64, grown  # an eighth of a MiB an upload; one bomb alone would be thousands
        assert {status_of(connection) for connection in slow} == {408}

    def test_a_lost_model_comes_back(self, service: str, ask: httpx.Client, token: str, clip: Clip, data_root: str):
        """Until then the service says 503, never a trace; afterwards it gives the same score. A client that tries again
        does not notice."""
        before = score_clip(service, clip, data_root, token=token)["score"]
        seen: list[float] = []
        stop = threading.Event()

        def send() -> None:
            with ScoringClient(service, token, tries=20) as client:
                while not stop.is_set():
                    seen.append(client.score(clip, data_root).score or 0.0)

        sender = threading.Thread(target=send)
        sender.start()
        ray.kill(replica("Model"))
        statuses, deadline = [], time.monotonic() + 120
        while True:
            body, files = clip_request(clip, data_root)
            response = ask.post("/v1/score", files=[clip_part(body), *files])
            statuses.append(response.status_code)
            if response.status_code == 200 or time.monotonic() > deadline:
                break
            assert "Traceback" not in response.text
            time.sleep(0.5)
        n_seen = len(seen)
        while len(seen) == n_seen:
            assert sender.is_alive()
            time.sleep(0.05)
        stop.set()
        sender.join()
        assert set(statuses) <= {503, 200}
        assert [response.json()["score"], *seen] == pytest.approx([before] * (1 + len(seen)), rel=1e-6)
