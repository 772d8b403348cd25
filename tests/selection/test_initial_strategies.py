"""Random, stratified and ego diversity against counting and enumeration."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sead_ray.selection import STRATEGIES, Budget, Pool, PoolClip
from sead_ray.selection.ego_diversity import evenly_along, leaf_quotas
from sead_ray.selection.pool import mean_speed_mps
from sead_ray.selection.strata import STRATA, assign_strata, largest_remainder_quotas
from tests.selection.pools import make_clips

CLIPS = make_clips()
POOL = Pool.from_clips(CLIPS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_random_is_uniform() -> None:
    counts = dict.fromkeys((clip.clip_token for clip in CLIPS), 0)
    generator = rng(0)
    for _ in range(1000):
        for row in STRATEGIES["random"](POOL, Budget(clips=10), generator):
            counts[row.clip_token] += 1
    # binomial(1000, 1/4): mean 250, standard deviation 13.7
    assert max(abs(count - 250) for count in counts.values()) < 5 * 13.7


def test_random_frames_are_randoms_clips_in_its_order() -> None:
    whole = STRATEGIES["random"](POOL, Budget(clips=40), rng(4))
    cut = STRATEGIES["random_frames"](POOL, Budget(frames=100), rng(4))
    assert [row.clip_token for row in cut] == [row.clip_token for row in whole[: len(cut)]]
    assert sum(row.n_frames_bought for row in cut) == 100
    assert all(row.n_frames_bought == full.n_frames_bought for row, full in zip(cut[:-1], whole))
    assert "equal label cost, 100 frames" in cut[0].reason


@pytest.mark.parametrize("n_clips", [1, 4, 17, 40])
def test_stratified_meets_every_quota(n_clips: int) -> None:
    rows = STRATEGIES["stratified"](POOL, Budget(clips=n_clips), rng())
    strata = assign_strata(CLIPS, 1 / 3)
    sizes = {name: list(strata.values()).count(name) for name in STRATA}
    quotas = largest_remainder_quotas(sizes, n_clips)
    assert {name: sum(row.stratum == name for row in rows) for name in STRATA} == quotas
    assert all(strata[row.clip_token] == row.stratum for row in rows)


def test_stratified_draws_uniformly_within_a_stratum() -> None:
    clips = [replace(clip, is_night=False, is_rainy=False, acc_std_mps2=0.0, yaw_sum_rad=0.0) for clip in CLIPS]
    strata = assign_strata(clips, 1 / 3)
    counts = dict.fromkeys((token for token, stratum in strata.items() if stratum == "DS-N"), 0)
    generator, pool = rng(1), Pool.from_clips(clips)
    for _ in range(500):
        for row in STRATEGIES["stratified"](pool, Budget(clips=20), generator):
            if row.stratum == "DS-N":
                counts[row.clip_token] += 1
    expected = sum(counts.values()) / len(counts)
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(500 / 4)


def car(token: str, condition: str, behaviour: str, speed_mps: float) -> PoolClip:
    night, rainy = condition[0] == "N", condition[1] == "R"
    return PoolClip(token, 10, night, rainy, 0.0, 0.0, "can", behaviour, mean_speed_mps=speed_mps)


def test_ego_diversity_by_hand() -> None:
    """Eight day-sunny clips (six straight, two left) and four night-rainy ones; six to buy: 4 and 2, then 3 + 1 and 2.

    Straight, by speed: s0 .. s5 at 0 .. 5 m/s in shuffled rows; three of six are the middles of equal thirds.
    """
    straight = [car(f"s{speed}", "DS", "straight", speed) for speed in (3, 0, 5, 1, 4, 2)]
    left = [car("l0", "DS", "left", 1.0), car("l1", "DS", "left", 9.0)]
    night = [car(f"n{speed}", "NR", "right", speed) for speed in (7, 1, 3, 5)]
    rows = STRATEGIES["ego_diversity"](Pool.from_clips([*straight, *left, *night]), Budget(clips=6), rng())
    assert [row.clip_token for row in rows] == ["s1", "s3", "s5", "l1", "n3", "n7"]
    assert "one of 3 from 6 clips of DS, straight" in rows[0].reason


def test_leaf_quotas_are_the_nearest_of_all_allocations_at_both_levels() -> None:
    conditions = [("N" if clip.is_night else "D") + ("R" if clip.is_rainy else "S") for clip in CLIPS]
    behaviours = [clip.behaviour for clip in CLIPS]
    for n_clips in (3, 11, 25):
        quotas = leaf_quotas(conditions, behaviours, n_clips)
        assert sum(quotas.values()) == n_clips
        for condition in set(conditions):
            inside = [kind for c, kind in zip(conditions, behaviours) if c == condition]
            mine = {kind: quota for (c, kind), quota in quotas.items() if c == condition}
            share = sum(mine.values())
            assert abs(share - n_clips * len(inside) / len(CLIPS)) < 1
            sizes = [inside.count(kind) for kind in mine]
            ideal = [share * size / len(inside) for size in sizes]
            distances = [
                sum(abs(q - i) for q, i in zip(allocation, ideal))
                for allocation in itertools.product(*(range(size + 1) for size in sizes))
                if sum(allocation) == share
            ]
            assert sum(abs(q - i) for q, i in zip(mine.values(), ideal)) == pytest.approx(min(distances))


@pytest.mark.parametrize(("n", "count"), [(1, 1), (7, 1), (7, 3), (7, 7), (10, 4)])
def test_evenly_along_leaves_no_large_gap(n: int, count: int) -> None:
    values = rng(n).permutation(n).astype(float)
    taken = np.sort(values[evenly_along(values, count)])
    assert len(set(taken)) == count
    assert np.diff([-0.5 * n / count - 0.5, *taken, n + 0.5 * n / count - 0.5]).max() <= np.ceil(n / count) + 0.5


def test_mean_speed() -> None:
    way = np.array([[0.0, 0, 9], [3, 4, 0], [3, 10, 5]])  # 5 m, then 6 m on the ground
    assert mean_speed_mps(way, np.array([0, 500_000, 2_000_000])) == pytest.approx(5.5)
    assert mean_speed_mps(way[:1], np.array([5])) == 0
