"""What sessions are besides: frames sent twice or refused, models that fail, limits, expiry."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sead_ray.client import ScoringClient, clip_part
from sead_ray.clip_request import frame_request
from sead_ray.errors import InputError
from sead_ray.records import Clip, ClipScore
from sead_ray.stages.frame_step import FrameInput, FrameStep
from serve.errors import ApiError
from serve.scorer import LocalScorer
from tests.serve.ways import assert_same


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
        client = ScoringClient("", tries=1, http=serving(max_sessions=1, max_frames=2, session_idle_s=2.0)._http)
        with client.session() as session:
            assert session.add(clip, 0, data_root).n_frames_left == 1
            session.add(clip, 1, data_root)
            with pytest.raises(InputError, match="has its 2 frames"):
                session.add(clip, 2, data_root)
            with pytest.raises(httpx.HTTPStatusError, match="429"), client.session():
                pass
            time.sleep(2.1)
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
