from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sead_ray.errors import InputError
from sead_ray.selection.pool import PoolClip
from sead_ray.selection.strata import (
    STRATA,
    assign_strata,
    describe_stratum,
    largest_remainder_quotas,
    with_strata,
)


def clip(token: str, acc: float, yaw: float, night: bool = False, rainy: bool = False, source: str = "can") -> PoolClip:
    return PoolClip(token, 20, night, rainy, acc, yaw, source, "straight")


def test_the_twelve_strata() -> None:
    assert tuple(f"{a}-{b}" for a in ("DS", "DR", "NS", "NR") for b in "BSN") == STRATA
    assert describe_stratum("NR-S") == "night, rainy, only one of acceleration and turning among the highest"


def test_strata_by_hand() -> None:
    # lambda 1/3 of 6: the two highest accelerations are a, b; the two highest yaws are b, c
    pool = [
        clip("a", 9, 1),
        clip("b", 8, 9, night=True),
        clip("c", 1, 8, rainy=True),
        clip("d", 2, 2, night=True, rainy=True),
        clip("e", 3, 3),
        clip("f", 4, 4),
    ]
    expected = {"a": "DS-S", "b": "NS-B", "c": "DR-S", "d": "NR-N", "e": "DS-N", "f": "DS-N"}
    assert assign_strata(pool, 1 / 3) == expected
    assert {c.clip_token: c.stratum for c in with_strata(pool, 1 / 3)} == expected


def test_ranks_are_within_a_dynamics_source() -> None:
    # pose estimates are all larger than CAN's; ranked together, no CAN clip would be valuable
    can = [clip(f"c{i}", i, i) for i in range(3)]
    pose = [clip(f"p{i}", 100 + i, 100 + i, source="pose") for i in range(3)]
    strata = assign_strata(can + pose, 1 / 3)
    assert [token for token, stratum in strata.items() if stratum == "DS-B"] == ["c2", "p2"]


def test_ties_go_to_the_smaller_token_whatever_the_order() -> None:
    pool = [clip(token, 1, 1) for token in "abcdef"]
    for seed in range(5):
        shuffled = random.Random(seed).sample(pool, len(pool))
        strata = assign_strata(shuffled, 1 / 3)
        assert sorted(token for token, stratum in strata.items() if stratum == "DS-B") == ["a", "b"]


def test_non_finite_dynamics_name_the_clip() -> None:
    with pytest.raises(InputError, match="Clip b"):
        assign_strata([clip("a", 1, 1), clip("b", float("nan"), 1)], 1 / 3)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_quotas_sum_exactly_and_fit(sizes: list[int], data: st.DataObject) -> None:
    named = dict(zip(STRATA, sizes))
    n_clips = data.draw(st.integers(0, sum(sizes)))
    quotas = largest_remainder_quotas(named, n_clips)
    assert sum(quotas.values()) == n_clips
    for name, size in named.items():
        assert 0 <= quotas[name] <= size
        if sum(sizes):
            assert abs(quotas[name] - Fraction(n_clips * size, sum(sizes))) < 1
    assert quotas == largest_remainder_quotas(named, n_clips)


@pytest.mark.parametrize("sizes", [(5, 3, 2), (1, 1, 1), (7, 0, 4), (2, 6, 6)])
def test_quotas_are_the_nearest_of_all_allocations(sizes: tuple[int, ...]) -> None:
    total = sum(sizes)
    for n_clips in range(total + 1):
        ideal = [Fraction(n_clips * size, total) for size in sizes]
        allocations = [q for q in itertools.product(*(range(s + 1) for s in sizes)) if sum(q) == n_clips]

        def distance(quotas: tuple[int, ...], ideal: list[Fraction] = ideal) -> Fraction:
            return sum((abs(q - i) for q, i in zip(quotas, ideal)), Fraction(0))

        quotas = tuple(largest_remainder_quotas(dict(zip("xyz", sizes)), n_clips).values())
        assert distance(quotas) == min(map(distance, allocations))


def test_equal_remainders_go_in_order() -> None:
    assert largest_remainder_quotas({"x": 3, "y": 3, "z": 3}, 4) == {"x": 2, "y": 1, "z": 1}


def test_quota_beyond_the_strata_is_an_input_error() -> None:
    with pytest.raises(InputError, match="5 clips, but the strata hold 4"):
        largest_remainder_quotas({"x": 4}, 5)
