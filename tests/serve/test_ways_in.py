"""A clip scores the same whichever way it comes: at once, as a job, frame by frame, from storage. And what jobs and
sessions are besides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from sead_ray.client import ScoringClient, clip_part, clip_request
from sead_ray.clip_request import frame_request
from sead_ray.config import ImageConfig, ScoreConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.weights import load_model
from sead_ray.records import Clip, ClipScore
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import LoadedClip, load_clip
from sead_ray.stages.frame_step import FrameInput, FrameStep
from sead_ray.stages.score import score_loaded_clips
from sead_ray.storage import Store
from sead_ray.tokens import append_grant, new_token
from sead_ray.wire import ClipAnswer, JobAnswer
from serve.api import build_api
from serve.errors import ApiError, busy
from serve.scorer import LocalScorer, Scored


@pytest.fixture(scope="module")
def scorer(model_dir: str) -> LocalScorer:
    return LocalScorer(model_dir, "cpu")


@pytest.fixture(scope="module")
def serving(scorer: LocalScorer, data_root: str) -> Iterator[Callable[..., ScoringClient]]:
    """(scorer, limits…) to a client of a service in this process. Each is one app with its own event loop."""
    opened: list[TestClient] = []

    def serve(use: LocalScorer = scorer, token: str | None = None, **limits: Any) -> ScoringClient:
        settings = ServeConfig(**{"storage_prefixes": [data_root], **limits})
        http = TestClient(build_api(use, settings), raise_server_exceptions=False)
        http.__enter__()
        opened.append(http)
        return ScoringClient("", token, first_wait_s=0.01, http=http)

    yield serve
    for http in opened:
        http.__exit__(None, None, None)


@pytest.fixture(scope="module")
def client(serving: Callable[..., ScoringClient]) -> ScoringClient:
    return serving()


@pytest.fixture(scope="module")
def expected(clip: Clip, data_root: str, served_run: Store) -> ClipScore:
    """By the pool's arithmetic."""
    model, card = load_model(served_run, layout.model(1))
    loaded = load_clip(clip, data_root, ImageConfig(**card["info"]["image"]))
    return score_loaded_clips(model, card["model_version"], [loaded], "cpu", ScoreConfig())[0]


def assert_same(got: ClipAnswer, expected: ClipScore) -> None:
    assert got.score == pytest.approx(expected.shift_sum, rel=1e-5)
    assert got.shift_agents == pytest.approx(expected.shift_agents, rel=1e-5)
    assert got.shift_map == pytest.approx(expected.shift_map, rel=1e-5)
    assert got.is_key == expected.is_key
    assert (got.key_frames.start, got.key_frames.length) == (expected.key_start, expected.key_length)
    assert got.model_version == expected.model_version


def finished(client: ScoringClient, job: JobAnswer) -> JobAnswer:
    return client.wait(job.job_id, timeout_s=60, poll_s=0.02)


class TestTheSameScore:
    def test_at_once(self, client: ScoringClient, clip: Clip, data_root: str, expected: ClipScore):
        assert_same(client.score(clip, data_root), expected)

    def test_from_storage(self, client: ScoringClient, clip: Clip, data_root: str, expected: ClipScore):
        assert_same(client.score_stored(clip, data_root), expected)

    def test_frame_by_frame(self, client: ScoringClient, clip: Clip, data_root: str, expected: ClipScore):
        with client.session(clip.clip_token) as session:
            answers = [session.add(clip, index, data_root) for index in range(len(clip.frames))]
        assert [answer.status for answer in answers] == ["waiting", "ok", "ok", "ok"]
        assert_same(answers[-1], expected)
        for n, answer in enumerate(answers[1:], start=1):  # the running score is that of the clip cut there
            assert answer.shift_agents == pytest.approx(expected.shift_agents[:n], rel=1e-5)
            assert answer.n_frames == n + 1

    def test_sessions_interleaved_do_not_mix(
        self, client: ScoringClient, clip: Clip, clip_without_can: Clip, data_root: str, expected: ClipScore
    ):
        with client.session() as one, client.session() as other:
            for index in range(len(clip.frames)):
                last = one.add(clip, index, data_root)
                different = other.add(clip_without_can, index, data_root)
        assert_same(last, expected)
        assert different.score != last.score
        assert (last.can_bus, different.can_bus) == ("given", "zeros")

    @pytest.mark.parametrize("stored", [False, True], ids=["uploaded", "stored"])
    def test_as_a_batch_job(
        self,
        client: ScoringClient,
        clip: Clip,
        clip_without_can: Clip,
        data_root: str,
        expected: ClipScore,
        stored: bool,
    ):
        clips = [clip, replace(clip_without_can, clip_token="other"), clip]
        job = client.submit_stored(clips, data_root) if stored else client.submit(clips, data_root)
        assert job.n_clips == 3
        done = finished(client, job)
        assert (done.status, done.n_done, done.n_frames_done) == ("done", 3, 12)
        assert [item.clip_token for item in done.clips] == ["clip-a", "other", "clip-a"]
        answers = [item.answer for item in done.clips if item.answer is not None]
        assert_same(answers[0], expected)
        assert_same(answers[2], expected)
        assert answers[1].score != answers[0].score

    def test_as_a_job_too_long_to_be_decoded_at_once(
        self, serving: Callable[..., ScoringClient], clip: Clip, data_root: str, expected: ClipScore
    ):
        client = serving(max_decoded_bytes=4 * 6 * 160 * 96 * 3 - 1)
        with pytest.raises(InputError, match="send it as a job"):
            client.score(clip, data_root)
        (item,) = finished(client, client.submit([clip], data_root)).clips
        assert item.answer is not None
        assert_same(item.answer, expected)

    @pytest.mark.parametrize(
        "settings", [{"warmup_frames": 2}, {"bev_shift": True}, {"rank_by": "mean"}, {"distance_from": "ego"}]
    )
    def test_with_other_settings(
        self,
        model_dir: str,
        serving: Callable[..., ScoringClient],
        clip: Clip,
        data_root: str,
        settings: dict[str, Any],
    ):
        scorer = LocalScorer(model_dir, "cpu")
        scorer._info = scorer._info.model_copy(update={"score": ScoreConfig(theta_confidence=0.0, **settings)})
        client = serving(scorer)
        whole = client.score(clip, data_root)
        with client.session(clip.clip_token) as session:
            for index in range(len(clip.frames)):
                last = session.add(clip, index, data_root)
        assert last.score == pytest.approx(whole.score, rel=1e-5)
        assert last.min_distance_m == pytest.approx(whole.min_distance_m, rel=1e-5)


class SlowScorer(LocalScorer):
    """Waits until it is let go."""

    held = True

    async def score(self, loaded: LoadedClip) -> Scored:
        import asyncio

        while self.held:
            await asyncio.sleep(0.01)
        return await super().score(loaded)


class TestJobs:
    def test_cancel(self, model_dir: str, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
        client = serving(SlowScorer(model_dir, "cpu"), max_jobs=2)
        first, second = (client.submit([clip, clip], data_root) for _ in range(2))
        assert client.job(second.job_id).status == "queued"
        with pytest.raises(httpx.HTTPStatusError, match="429"):
            ScoringClient("", tries=1, http=client._http).submit([clip], data_root)
        for job in (first, second):
            cancelled = client.cancel(job.job_id)
            assert cancelled.status == "cancelled"
            assert [item.status for item in cancelled.clips] == ["cancelled"] * 2
        SlowScorer.held = False
        try:  # the desk goes on with the next
            assert finished(client, client.submit([clip], data_root)).clips[0].status == "done"
            assert client.job(first.job_id).status == "cancelled"
            assert client.job(first.job_id).clips[0].answer is None
        finally:
            SlowScorer.held = True

    def test_one_bad_clip_does_not_spoil_the_others(self, client: ScoringClient, clip: Clip, data_root: str):
        """Damage that only decoding finds, in a job of which the headers are all well."""
        bodies, parts = [], []
        for number in range(2):
            body, files = clip_request(clip, data_root)
            for frame in body["frames"]:
                for camera in frame["cameras"].values():
                    camera["image"] = f"{number}-{camera['image']}"
            bodies.append(body)
            parts += [(part, (f"{number}-{name}", data, kind)) for part, (name, data, kind) in files]
        name, data, kind = parts[3][1]
        without_tables = data.replace(b"\xff\xdb", b"\xff\xe5").replace(b"\xff\xc4", b"\xff\xe6")
        parts[3] = ("images", (name, without_tables, kind))
        response = client._http.post("/v1/jobs", files=[*map(clip_part, bodies), *parts])
        assert response.status_code == 202, response.text
        assert response.headers["location"] == f"/v1/jobs/{response.json()['job_id']}"
        bad, good = finished(client, JobAnswer.model_validate(response.json())).clips
        assert (bad.status, good.status) == ("failed", "done")
        assert bad.error is not None
        assert bad.error.field == f"clips.0.frames.0.cameras.{clip.frames[0].cameras[3].name}.image"

    def test_a_missing_file_in_storage_is_the_clips_error(self, client: ScoringClient, clip: Clip, data_root: str):
        camera = replace(clip.frames[1].cameras[2], key="samples/none.jpg")
        frame = replace(clip.frames[1], cameras=(*clip.frames[1].cameras[:2], camera, *clip.frames[1].cameras[3:]))
        broken = replace(clip, frames=(clip.frames[0], frame, *clip.frames[2:]))
        bad, good = finished(client, client.submit_stored([broken, clip], data_root)).clips
        assert bad.error is not None
        assert bad.error.field == f"clips.0.frames.1.cameras.{camera.name}.image"
        assert data_root not in bad.error.detail
        assert good.status == "done"

    def test_a_fault_shows_an_id_and_no_trace(
        self, model_dir: str, serving: Callable[..., ScoringClient], clip: Clip, data_root: str
    ):
        class Broken(LocalScorer):
            async def score(self, loaded: LoadedClip) -> Scored:
                raise RuntimeError("secret path /srv/models")

        client = serving(Broken(model_dir, "cpu"))
        (item,) = finished(client, client.submit([clip], data_root)).clips
        assert item.status == "failed"
        assert item.error is not None
        assert "secret" not in item.error.detail

    def test_a_busy_model_is_waited_for(
        self,
        model_dir: str,
        serving: Callable[..., ScoringClient],
        clip: Clip,
        data_root: str,
        monkeypatch: pytest.MonkeyPatch,
    ):
        refusals = [busy("busy"), ApiError(503, "restarting")]

        class Busy(LocalScorer):
            async def score(self, loaded: LoadedClip) -> Scored:
                if refusals:
                    raise refusals.pop()
                return await super().score(loaded)

        monkeypatch.setattr("serve.job_desk.BUSY_RETRY_S", 0.01)
        client = serving(Busy(model_dir, "cpu"))
        assert finished(client, client.submit([clip], data_root)).clips[0].status == "done"
        assert refusals == []

    def test_idempotency_key(self, client: ScoringClient, clip: Clip, clip_without_can: Clip, data_root: str):
        first = client.submit([clip], data_root, key="a")
        assert client.submit([clip], data_root, key="a").job_id == first.job_id
        assert client.submit([clip], data_root, key="b").job_id != first.job_id
        with pytest.raises(InputError, match="idempotency key"):
            client.submit([clip_without_can], data_root, key="a")

    def test_limits(self, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
        with pytest.raises(InputError, match="8 frames"):
            serving(max_job_frames=7).submit([clip, clip], data_root)
        client = ScoringClient("", tries=1, http=serving(max_job_bytes=1000)._http)
        with pytest.raises(httpx.HTTPStatusError, match="429"):
            client.submit([clip], data_root)

    def test_results_are_kept_for_a_limited_time(
        self, serving: Callable[..., ScoringClient], clip: Clip, data_root: str
    ):
        client = serving(job_keep_s=0.3)
        job = client.submit_stored([clip], data_root)
        finished(client, job)
        time.sleep(0.4)
        with pytest.raises(InputError, match="no such job"):
            client.job(job.job_id)


class TestSessions:
    def test_a_frame_sent_twice_counts_once(self, client: ScoringClient, clip: Clip, data_root: str):
        with client.session() as session:
            session.add(clip, 0, data_root)
            first, again = session.add(clip, 1, data_root), session.add(clip, 1, data_root)
            assert (first.n_frames, again.n_frames) == (2, 2)
            assert again.score == first.score

    def test_a_refused_frame_changes_nothing(
        self, client: ScoringClient, clip: Clip, data_root: str, expected: ClipScore
    ):
        with client.session() as session:
            path = f"/v1/sessions/{session.session_id}/frames"
            session.add(clip, 0, data_root)
            session.add(clip, 1, data_root)
            earlier = replace(clip, frames=(replace(clip.frames[2], timestamp_us=clip.frames[0].timestamp_us),))
            with pytest.raises(InputError, match=r"Time does not go forward at frame 2.*field timestamp_us"):
                session.add(earlier, 0, data_root)
            with pytest.raises(InputError, match="field can"):
                session.add(replace(clip, dynamics_source="pose"), 2, data_root)
            body, files = frame_request(clip, 2, data_root)
            files[4] = ("images", (files[4][1][0], b"\xff\xd8\xff\xd9", "image/jpeg"))
            response = client._http.post(path, files=[clip_part(body, "frame"), *files])
            assert response.status_code == 422
            assert response.json()["field"] == f"cameras.{clip.frames[2].cameras[4].name}.image"
            session.add(clip, 2, data_root)
            assert_same(session.add(clip, 3, data_root), expected)

    def test_a_model_that_fails_changes_nothing(
        self, model_dir: str, serving: Callable[..., ScoringClient], clip: Clip, data_root: str, expected: ClipScore
    ):
        class Flaky(LocalScorer):
            calls = 0

            async def step(self, given: FrameInput, history: Any) -> FrameStep:
                self.calls += 1
                if self.calls % 2:
                    raise ApiError(503, "The model is restarting; try again later.")
                return await super().step(given, history)

        client = serving(Flaky(model_dir, "cpu"))  # which tries again
        with client.session() as session:
            for index in range(4):
                last = session.add(clip, index, data_root)
        assert_same(last, expected)

    def test_another_model_in_between_is_said(
        self, model_dir: str, serving: Callable[..., ScoringClient], clip: Clip, data_root: str
    ):
        class Switched(LocalScorer):
            async def step(self, given: FrameInput, history: Any) -> FrameStep:
                step = await super().step(given, history)
                return step if history is None else replace(step, model_version="newer")

        with serving(Switched(model_dir, "cpu")).session() as session:
            session.add(clip, 0, data_root)
            with pytest.raises(InputError, match="The model was changed"):
                session.add(clip, 1, data_root)

    def test_limits_and_expiry(self, serving: Callable[..., ScoringClient], clip: Clip, data_root: str):
        client = ScoringClient("", tries=1, http=serving(max_sessions=1, max_frames=2, session_idle_s=0.5)._http)
        with client.session() as session:
            assert session.add(clip, 0, data_root).n_frames_left == 1
            session.add(clip, 1, data_root)
            with pytest.raises(InputError, match="has its 2 frames"):
                session.add(clip, 2, data_root)
            with pytest.raises(httpx.HTTPStatusError, match="429"), client.session():
                pass
            time.sleep(0.6)
            with pytest.raises(InputError, match="no such session"):
                session.add(clip, 2, data_root)
        with client.session():
            pass

    def test_body_is_optional_and_closed_sessions_are_gone(self, client: ScoringClient):
        opened = client._http.post("/v1/sessions")
        assert opened.status_code == 201
        path = opened.headers["location"]
        assert client._http.get(path).json()["status"] == "waiting"
        assert client._http.delete(path).status_code == 200
        assert client._http.get(path).status_code == 404


def test_jobs_and_sessions_belong_to_their_token(
    serving: Callable[..., ScoringClient], clip: Clip, data_root: str, tmp_path: Path
):
    tokens = {}
    for name, scope in (("van", "score"), ("other", "score"), ("ops", "admin")):
        tokens[name], grant = new_token(scope, name)  # type: ignore[arg-type]
        append_grant(str(tmp_path / "t"), grant)
    van = serving(token=tokens["van"], tokens_file=str(tmp_path / "t"))
    other, ops = (ScoringClient("", tokens[name], http=van._http) for name in ("other", "ops"))
    job = van.submit_stored([clip], data_root)
    with van.session() as session:
        session_path = f"/v1/sessions/{session.session_id}"
        for path in (f"/v1/jobs/{job.job_id}", session_path):
            statuses = [client._http.get(path, headers=client._headers).status_code for client in (van, other, ops)]
            assert statuses == [200, 404, 200]
            assert other._http.delete(path, headers=other._headers).status_code == 404
        listed = ops._http.get("/v1/sessions", headers=ops._headers).json()["sessions"]
        assert [item["session_id"] for item in listed] == [session.session_id]
    listed = ops._http.get("/v1/jobs", headers=ops._headers).json()["jobs"]
    assert [item["job_id"] for item in listed] == [job.job_id]
    finished(van, job)


class TestRetries:
    def answering(self, *statuses: int) -> tuple[ScoringClient, list[httpx.Request]]:
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            status = statuses[len(seen) - 1]
            if status == 0:
                raise httpx.ConnectError("refused", request=request)
            body = {"models": []} if status == 200 else {"error_id": "0" * 12, "detail": "No.", "field": None}
            return httpx.Response(status, json=body, headers={"Retry-After": "0"})

        http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
        return ScoringClient("", "secret", tries=4, first_wait_s=0.001, http=http), seen

    def test_comes_again_until_it_is_served(self):
        client, seen = self.answering(429, 0, 503, 200)
        assert client.models() == []
        assert len(seen) == 4
        assert {request.headers["authorization"] for request in seen} == {"Bearer secret"}

    def test_gives_up_after_all_tries(self):
        client, seen = self.answering(503, 503, 503, 503)
        with pytest.raises(httpx.HTTPStatusError):
            client.models()
        assert len(seen) == 4
        with pytest.raises(httpx.ConnectError):
            self.answering(0, 0, 0, 0)[0].models()

    @pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 422])
    def test_a_refusal_is_final(self, status: int):
        client, seen = self.answering(status)
        with pytest.raises(InputError, match=r"^No\. \(error 0{12}\)$"):
            client.models()
        assert len(seen) == 1
