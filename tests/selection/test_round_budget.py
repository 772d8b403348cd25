from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection
from sead_ray.selection.budget import (
    Budget,
    cut_to_frames,
    round_amounts,
    round_budget,
    round_share,
    round_sizes,
    spend,
)


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


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [70, 70, 70]),
        ({"rounds": [10, 20, 30], "amounts": "percent"}, [70, 70, 70]),
        ({"rounds": [5, 12], "amounts": "count"}, [5, 7]),
        ({"budget_in": "frames"}, [2800, 2800, 2800]),
        ({"rounds": [100, 1000], "amounts": "count", "budget_in": "frames"}, [100, 900]),
        ({"rounds": [0.29], "amounts": "percent"}, [2]),
    ],
)
def test_amounts_in_every_unit(settings: dict[str, Any], expected: list[int]) -> None:
    config = SelectConfig(**settings)
    assert round_amounts(config, 700, 28_000) == expected
    unit = settings.get("budget_in", "clips")
    assert round_budget(config, 1 % len(expected), 700, 28_000) == Budget(**{unit: expected[1 % len(expected)]})


def test_more_than_there_is() -> None:
    config = SelectConfig(rounds=[701], amounts="count")
    with pytest.raises(InputError, match=r"budget of 701 clips after 1 .*pool of 700"):
        round_amounts(config, 700, 28_000)
    frames = SelectConfig(rounds=[1, 28_001], amounts="count", budget_in="frames")
    with pytest.raises(InputError, match=r"budget of 28001 frames after 2 .*pool of 28000"):
        round_amounts(frames, 700, 28_000)


def test_a_budget_is_in_one_unit() -> None:
    for amounts in ({}, {"clips": 1, "frames": 1}):
        with pytest.raises(ValueError, match="either"):
            Budget(**amounts)


def row(token: str, frames: int) -> Selection:
    return Selection(0, token, 3, 3 + frames, 1, None, "", "Because.", frames)


def test_the_last_run_is_cut() -> None:
    rows = cut_to_frames([row("a", 4), row("b", 0), row("c", 5), row("d", 1)], 6)
    assert [(item.clip_token, item.frame_start, item.frame_stop) for item in rows] == [
        ("a", 3, 7),
        ("b", 3, 3),
        ("c", 3, 5),
    ]
    assert rows[0].reason == "Because."
    assert rows[2].reason == "Because; cut from 5 to 2 frames by the budget."


def test_of_rows_that_are_not_nested_the_fewest_that_suffice_are_taken() -> None:
    """Five clips of 2 frames; choosing n gives the last n, so that a longer list is no continuation of a shorter."""
    rng = np.random.default_rng(0)
    clips = [row(token, 2) for token in "abcde"]
    for frames in range(1, 11):
        rows = spend(Budget(frames=frames), rng, (5, 10), lambda n, _: clips[5 - n :], nested=False)
        assert [item.clip_token for item in rows] == list("abcde")[5 - -(-frames // 2) :]
        assert sum(item.n_frames_bought for item in rows) == frames
    with pytest.raises(InputError, match="10 frames, but the strategy can buy only 0"):
        spend(Budget(frames=10), rng, (5, 10), lambda n, _: [row(token, 0) for token in "abcde"[:n]])
