from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sead_ray.scoring.key_frames import key_frames, longest_run


@given(st.lists(st.booleans(), max_size=14))
def test_longest_run_equals_brute_force(is_key: list[bool]) -> None:
    runs = [
        (start, stop - start)
        for start in range(len(is_key))
        for stop in range(start + 1, len(is_key) + 1)
        if all(is_key[start:stop])
    ]
    expected = max(runs, key=lambda run: (run[1], -run[0]), default=(0, 0))
    assert longest_run(is_key) == expected


def test_first_of_equal_runs() -> None:
    assert longest_run([False, True, True, False, True, True]) == (1, 2)
    assert longest_run([]) == (0, 0)
    assert longest_run([False, False]) == (0, 0)


def test_threshold_is_strict_and_nobody_is_not_near() -> None:
    assert key_frames([4.99, 5.0, 5.01, np.inf], 5.0).tolist() == [True, False, False, False]


@given(st.lists(st.floats(0, 20) | st.just(float("inf")), min_size=1, max_size=8), st.floats(0.1, 20), st.floats(0, 5))
def test_larger_threshold_never_loses_a_key_frame(distances: list[float], theta: float, more: float) -> None:
    assert not (key_frames(distances, theta) & ~key_frames(distances, theta + more)).any()
    assert pytest.approx(0) == key_frames(distances, 0.0).sum()
