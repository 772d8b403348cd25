from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import ClipScore
from sead_ray.schemas import SELECTION_SCHEMA
from sead_ray.selection import INCREMENTAL, INITIAL, STRATEGIES, PoolClip
from sead_ray.selection.strata import STRATA, assign_strata, largest_remainder_quotas, with_strata

CONFIG = SelectConfig()


def make_pool(n: int = 40) -> list[PoolClip]:
    rng = np.random.default_rng(7)
    pool = [
        PoolClip(
            clip_token=f"clip-{i:02d}",
            n_frames=int(rng.integers(10, 20)),
            is_night=bool(rng.random() < 0.3),
            is_rainy=bool(rng.random() < 0.3),
            acc_std_mps2=float(rng.random()),
            yaw_sum_rad=float(rng.random()),
            dynamics_source="can" if rng.random() < 0.8 else "pose",
            behaviour="straight",
        )
        for i in range(n)
    ]
    return with_strata(pool, CONFIG.valuable_ratio)


def make_scores(pool: list[PoolClip]) -> dict[str, ClipScore]:
    rng = np.random.default_rng(8)
    return {
        clip.clip_token: ClipScore(
            clip.clip_token,
            "model",
            "ok",
            n_frames=clip.n_frames,
            shift_sum=float(rng.integers(0, 6)),  # with ties
            key_start=2,
            key_length=int(rng.integers(1, 5)),
        )
        for clip in pool
    }


POOL = make_pool()
SCORES = make_scores(POOL)


@pytest.fixture(params=sorted(STRATEGIES))
def select(request: pytest.FixtureRequest):
    return STRATEGIES[request.param]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_registry_covers_the_configuration() -> None:
    assert set(INITIAL) == {"stratified", "random"}
    assert set(INCREMENTAL) == {"sead", "random"}
    assert set(STRATEGIES) == set(INITIAL) | set(INCREMENTAL)


@pytest.mark.parametrize("n_clips", [1, 4, 13, 40])
def test_size_ranks_and_no_duplicates(select, n_clips: int) -> None:
    rows = select(POOL, SCORES, n_clips, rng(), CONFIG, 2)
    assert len(rows) == len({row.clip_token for row in rows}) == n_clips
    assert [row.rank for row in rows] == list(range(1, n_clips + 1))
    assert {row.round for row in rows} == {2}
    frames = {clip.clip_token: clip.n_frames for clip in POOL}
    for row in rows:
        assert 0 <= row.frame_start <= row.frame_stop <= frames[row.clip_token]
        assert row.n_frames_bought == row.frame_stop - row.frame_start
        assert row.stratum in STRATA
        assert row.reason.endswith(".")


def test_the_order_of_the_pool_does_not_matter(select) -> None:
    rows = select(POOL, SCORES, 9, rng(3), CONFIG, 0)
    for seed in range(3):
        order = rng(seed).permutation(len(POOL))
        shuffled = [POOL[i] for i in order]
        scores = {clip.clip_token: SCORES[clip.clip_token] for clip in shuffled}
        assert select(shuffled, scores, 9, rng(3), CONFIG, 0) == rows


def test_the_seed_decides(select) -> None:
    assert select(POOL, SCORES, 9, rng(3), CONFIG, 0) == select(POOL, SCORES, 9, rng(3), CONFIG, 0)
    if select is not STRATEGIES["sead"]:
        tokens = {tuple(row.clip_token for row in select(POOL, SCORES, 9, rng(s), CONFIG, 0)) for s in range(5)}
        assert len(tokens) > 1


def test_empty_pool(select) -> None:
    with pytest.raises(InputError, match="pool is empty"):
        select([], SCORES, 1, rng(), CONFIG, 0)


def test_more_than_the_pool(select) -> None:
    with pytest.raises(InputError, match="41 clips, but only 40"):
        select(POOL, SCORES, 41, rng(), CONFIG, 0)


def test_nothing_asked_for(select) -> None:
    with pytest.raises(InputError, match="0 were asked"):
        select(POOL, SCORES, 0, rng(), CONFIG, 0)


def test_a_clip_twice(select) -> None:
    with pytest.raises(InputError, match="clip-00 is in the pool twice"):
        select([*POOL, POOL[0]], SCORES, 3, rng(), CONFIG, 0)


def test_rows_fit_their_parquet_schema(select) -> None:
    rows = [row.to_row() for row in select(POOL, SCORES, 5, rng(), CONFIG, 1)]
    assert pa.Table.from_pylist(rows, schema=SELECTION_SCHEMA).num_rows == 5


@pytest.mark.parametrize("name", sorted(INITIAL))
def test_initial_strategies_need_no_scores_and_buy_whole_clips(name: str) -> None:
    rows = INITIAL[name](POOL, None, 8, rng(), CONFIG, 0)
    assert rows == INITIAL[name](POOL, SCORES, 8, rng(), CONFIG, 0)
    frames = {clip.clip_token: clip.n_frames for clip in POOL}
    assert all((row.frame_start, row.frame_stop) == (0, frames[row.clip_token]) for row in rows)
    assert all(row.score is None for row in rows)


def test_random_is_uniform() -> None:
    counts = dict.fromkeys((clip.clip_token for clip in POOL), 0)
    generator = rng(0)
    for _ in range(2000):
        for row in STRATEGIES["random"](POOL, None, 10, generator, CONFIG, 0):
            counts[row.clip_token] += 1
    # binomial(2000, 1/4): mean 500, standard deviation 19.4
    assert max(abs(count - 500) for count in counts.values()) < 5 * 19.4


@pytest.mark.parametrize("n_clips", [1, 4, 17, 40])
def test_stratified_meets_every_quota(n_clips: int) -> None:
    rows = STRATEGIES["stratified"](POOL, None, n_clips, rng(), CONFIG, 0)
    strata = assign_strata(POOL, CONFIG.valuable_ratio)
    sizes = {name: list(strata.values()).count(name) for name in STRATA}
    assert {name: sum(row.stratum == name for row in rows) for name in STRATA} == largest_remainder_quotas(
        sizes, n_clips
    )
    assert all(strata[row.clip_token] == row.stratum for row in rows)


def test_stratified_draws_uniformly_within_a_stratum() -> None:
    pool = [replace(clip, is_night=False, is_rainy=False, acc_std_mps2=0.0, yaw_sum_rad=0.0) for clip in POOL]
    strata = assign_strata(pool, CONFIG.valuable_ratio)
    quiet = [token for token, stratum in strata.items() if stratum == "DS-N"]
    counts = dict.fromkeys(quiet, 0)
    generator = rng(1)
    for _ in range(1000):
        for row in STRATEGIES["stratified"](pool, None, 20, generator, CONFIG, 0):
            if row.stratum == "DS-N":
                counts[row.clip_token] += 1
    expected = sum(counts.values()) / len(quiet)
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(1000 / 4)
