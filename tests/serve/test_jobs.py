"""What jobs are besides: cancelled, patient, limited, kept for a while, their token's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from sead_ray.client import ScoringClient, clip_part, clip_request
from sead_ray.errors import InputError
from sead_ray.records import Clip
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.tokens import append_grant, new_token
from sead_ray.wire import JobAnswer
from serve.errors import ApiError, busy
from serve.scorer import LocalScorer, Scored
from tests.serve.ways import finished


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
