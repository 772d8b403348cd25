"""What the tests of the ways into the service share."""

from __future__ import annotations

import pytest

from sead_ray.client import ScoringClient
from sead_ray.records import ClipScore
from sead_ray.wire import ClipAnswer, JobAnswer


def assert_same(got: ClipAnswer, expected: ClipScore) -> None:
    assert got.score == pytest.approx(expected.shift_sum, rel=1e-5)
    assert got.shift_agents == pytest.approx(expected.shift_agents, rel=1e-5)
    assert got.shift_map == pytest.approx(expected.shift_map, rel=1e-5)
    assert got.is_key == expected.is_key
    assert (got.key_frames.start, got.key_frames.length) == (expected.key_start, expected.key_length)
    assert got.model_version == expected.model_version


def finished(client: ScoringClient, job: JobAnswer) -> JobAnswer:
    return client.wait(job.job_id, timeout_s=60, poll_s=0.02)
