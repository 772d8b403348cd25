"""ActiveAD's sum and the weighted product against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import ClipScore
from sead_ray.selection import STRATEGIES, Budget, Pool
from sead_ray.selection.explain import explain
from tests.selection.pools import QUICK, make_clips, make_scores

CLIPS = make_clips(4)
A, B, C, D = (clip.clip_token for clip in CLIPS)


def scored(token: str, index: int, **values: float) -> ClipScore:
    frames = CLIPS[index].n_frames
    return ClipScore(token, "m", "ok", n_frames=frames, key_length=2, **values)


# displacement 0, 1, 2, 4 m -> 0, 1/4, 1/2, 1; collision 0.1 for all -> 0; uncertainty 3, 1, 2, 1 -> 1, 0, 1/2, 0
SCORES = {
    A: scored(A, 0, displacement_error_m=0.0, soft_collision=0.1, agent_uncertainty=3.0, shift_sum=8.0),
    B: scored(B, 1, displacement_error_m=1.0, soft_collision=0.1, agent_uncertainty=1.0, shift_sum=4.0),
    C: scored(C, 2, displacement_error_m=2.0, soft_collision=0.1, agent_uncertainty=2.0, shift_sum=2.0),
    D: scored(D, 3, displacement_error_m=4.0, soft_collision=0.1, agent_uncertainty=1.0, shift_sum=0.0),
}
POOL = Pool.from_clips(CLIPS, SCORES)


def run(name: str, pool: Pool = POOL, n: int = 4, **settings):
    return STRATEGIES[name](pool, Budget(clips=n), np.random.default_rng(0), SelectConfig(**settings))


def test_activead_sums_scaled_terms() -> None:
    rows = run("activead")
    # A 0 + 0 + 1 = 1, B 1/4, C 1/2 + 1/2 = 1, D 1: the three of 1 by token
    assert [row.clip_token for row in rows] == [A, C, D, B]
    assert [row.score for row in rows] == pytest.approx([1, 1, 1, 0.25])
    assert "displacement error 0.50 x 1, soft collision 0.00 x 1, agent uncertainty 0.50 x 1" in rows[1].reason
    assert [row.n_frames_bought for row in rows] == [CLIPS[i].n_frames for i in (0, 2, 3, 1)]


def test_activead_weights() -> None:
    rows = run("activead", activead_weights={"displacement_error": 2.0, "agent_uncertainty": 0.5})
    assert [row.clip_token for row in rows] == [D, C, A, B]
    assert [row.score for row in rows] == pytest.approx([2, 1.25, 0.5, 0.5])
    with pytest.raises(InputError, match=r"activead_weights: 'speed'"):
        run("activead", activead_weights={"speed": 1.0})


def test_terms_are_scaled_over_what_may_be_bought() -> None:
    """Labelled and failed clips do not stretch the scale."""
    scores = {
        **SCORES,
        A: replace(SCORES[A], selectable=False, agent_uncertainty=99.0),
        D: replace(SCORES[D], status="failed", displacement_error_m=99.0),
    }
    rows = run("activead", Pool.from_clips(CLIPS, scores), n=2)
    assert [(row.clip_token, row.score) for row in rows] == [(C, 2.0), (B, 0.0)]


def test_weighted_product_by_hand() -> None:
    rows = run("weighted", terms={"shift": 1.0, "displacement_error": 0.5})
    shift, error = np.array([1, 0.5, 0.25, 0]), np.array([0, 0.25, 0.5, 1])
    expected = (0.01 + 0.99 * shift) * (0.01 + 0.99 * error) ** 0.5
    order = np.argsort(-expected)
    assert [row.clip_token for row in rows] == [CLIPS[i].clip_token for i in order]
    assert [row.score for row in rows] == pytest.approx(expected[order].tolist())
    assert "displacement error 0.26 ^ 0.5, shift 0.51 ^ 1" in rows[0].reason
    assert all(row.n_frames_bought == 2 for row in rows)


@pytest.mark.parametrize("terms", [{"beauty": 1.0}, {}])
def test_unknown_terms_are_named(terms: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"select\.terms"):
        run("weighted", terms=terms)


def test_nearness_is_of_the_nearest_participant_of_any_frame() -> None:
    near = {
        A: replace(SCORES[A], min_distance_m=[9.0, 3.0]),  # 1/4
        B: replace(SCORES[B], min_distance_m=[float("inf")]),  # 0
        C: replace(SCORES[C], min_distance_m=[1.0]),  # 1/2
        D: replace(SCORES[D], min_distance_m=[]),  # 0
    }
    rows = run("weighted", Pool.from_clips(CLIPS, near), terms={"nearness": 1.0})
    assert [row.clip_token for row in rows] == [C, A, B, D]
    assert [row.score for row in rows] == pytest.approx([1, 0.505, 0.01, 0.01])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_clip_that_was_not_taken_is_explained(name: str) -> None:
    clips = make_clips(30)
    pool = Pool.from_clips(clips, make_scores(clips, [clip.clip_token for clip in clips[25:]]))
    rows = STRATEGIES[name](pool, Budget(clips=6), np.random.default_rng(0), QUICK)
    clip = next(clip for clip in clips[:25] if clip.clip_token not in {row.clip_token for row in rows})
    why = explain(name, pool, rows, clip, QUICK)
    assert why.endswith(".")
    assert "\n" not in why
    assert any(char.isdigit() for char in why)


def test_the_explained_rank_is_the_rank() -> None:
    clips = make_clips(30)
    pool = Pool.from_clips(clips, make_scores(clips))
    for name in ("sead", "weighted", "activead"):
        every = STRATEGIES[name](pool, Budget(clips=30), np.random.default_rng(0), QUICK)
        token = every[20].clip_token
        clip = next(clip for clip in clips if clip.clip_token == token)
        why = explain(name, pool, every[:6], clip, QUICK)
        assert f"ranks 21, while the last of 6 taken has {every[5].score:.4g}." in why
