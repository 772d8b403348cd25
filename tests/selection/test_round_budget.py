from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.selection.budget import round_share, round_sizes
from sead_ray.selection.pool import Budget, PoolClip


@pytest.mark.parametrize(
    ("pool_size", "shares", "expected"),
    [
        (700, [0.1, 0.2, 0.3], [70, 70, 70]),
        (45, [0.1, 0.2, 0.3], [5, 4, 5]),  # cumulative 4.5 -> 5, 9, 13.5 -> 14
        (10, [1.0], [10]),
        (4, [0.1, 0.2, 0.3], [1, 1, 1]),  # cumulative 0, 1, 1: at least one each
        (3, [0.1, 0.2, 0.3], [1, 1, 1]),
    ],
)
def test_round_sizes_by_hand(pool_size: int, shares: list[float], expected: list[int]) -> None:
    assert round_sizes(pool_size, shares) == expected


@given(st.integers(20, 2000))
def test_cumulative_sum_stays_within_half_a_clip(pool_size: int) -> None:
    bought = 0
    for size, share in zip(round_sizes(pool_size, [0.1, 0.2, 0.3]), (0.1, 0.2, 0.3)):
        bought += size
        assert size >= 1
        assert abs(bought - share * pool_size) <= 0.5 + 1e-9


def test_shares_are_taken_as_written() -> None:
    assert 50 * 0.29 < 14.5  # the float product would round down
    assert round_share(50, 0.29) == 15
    assert round_share(700, 1 / 3) == 233


@pytest.mark.parametrize(
    ("pool_size", "shares", "message"),
    [
        (2, [0.1, 0.2, 0.3], "budget of 3 clips.*pool of 2"),
        (10, [1.2], "budget of 12.*pool of 10"),
        (0, [0.1], "empty"),
    ],
)
def test_a_budget_beyond_the_pool_is_an_input_error(pool_size: int, shares: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        round_sizes(pool_size, shares)


def test_budget_counts_clips_and_frames() -> None:
    pool = [PoolClip(token, 20, False, False, 0.0, 0.0, "can", "straight") for token in "abcd"]
    bought = [Selection(0, "a", 0, 20, 1, None, "", "", 20), Selection(1, "b", 0, 0, 1, 2.0, "", "", 0)]
    budget = Budget.spent(pool, bought)
    assert (budget.clips, budget.frames, budget.clip_share, budget.frame_share) == (2, 20, 0.5, 0.25)
