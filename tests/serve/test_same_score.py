"""A clip scores the same whichever way it comes: at once, as a job, frame by frame, from storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sead_ray.client import ScoringClient
from sead_ray.config import ScoreConfig
from sead_ray.errors import InputError
from sead_ray.records import Clip, ClipScore
from serve.scorer import LocalScorer
from tests.serve.ways import assert_same, finished


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
