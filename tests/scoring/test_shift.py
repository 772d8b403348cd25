from __future__ import annotations

from dataclasses import replace

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sead_ray.config import ScoreConfig
from sead_ray.scoring.features import FrameFeatures
from sead_ray.scoring.shift import clip_shifts, earth_movers_distance, earth_movers_distances, nominal_transitions

CONFIG = ScoreConfig()


def frame(agents: np.ndarray, maps: np.ndarray) -> FrameFeatures:
    empty = np.zeros((6, 2), np.float32)
    return FrameFeatures(agents, maps, np.inf, 0.0, empty, np.zeros(2, np.float32), 0.0, 0.0)


def moving_frames(positions: list[float]) -> list[FrameFeatures]:
    """Agents translated by the given positions along one axis, the map by ten times as much."""
    rng = np.random.default_rng(0)
    agents, maps = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    axis = np.array([1.0, 0, 0])
    return [frame(agents + p * axis, maps + 10 * p * axis) for p in positions]


def times(*seconds: float) -> list[int]:
    return [round(1_600_000_000e6 + s * 1e6) for s in seconds]


@pytest.mark.parametrize(("n", "m", "k"), [(7, 7, 3), (7, 7, 1), (7, 5, 3), (7, 5, 1), (1, 4, 2)])
def test_equals_pot(n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(n * 100 + m * 10 + k)
    a, b = rng.normal(size=(n, k)), rng.normal(size=(m, k)) * 2 + 1
    expected = ot.emd2(ot.unif(n), ot.unif(m), ot.dist(a, b, metric="euclidean"))
    assert earth_movers_distance(a, b) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_is_a_metric(seed: int, n: int, m: int, o: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = (rng.normal(size=(size, k)) for size in (n, m, o))
    ab, bc, ac = earth_movers_distance(a, b), earth_movers_distance(b, c), earth_movers_distance(a, c)
    assert ab == pytest.approx(earth_movers_distance(b, a), abs=1e-9)
    assert ac <= ab + bc + 1e-9
    assert ab > 0
    assert earth_movers_distance(a, a) == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 4))
def test_translation_costs_its_length_whatever_the_order(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    points, shift = rng.normal(size=(n, k)), rng.normal(size=k) * 3
    moved = rng.permutation(points + shift)
    assert earth_movers_distance(points, moved) == pytest.approx(np.linalg.norm(shift), rel=1e-9)
    assert earth_movers_distance(points, rng.permutation(points)) == pytest.approx(0, abs=1e-12)


def test_sets_without_points_or_of_other_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="non-empty"):
        earth_movers_distance(np.zeros((0, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="equal dimension"):
        earth_movers_distance(np.zeros((3, 1)), np.zeros((3, 2)))


def test_shifts_by_hand() -> None:
    shifts = clip_shifts(moving_frames([0, 1, 3]), times(0, 0.5, 1.0), CONFIG)
    assert shifts.agents == pytest.approx([1, 2])
    assert shifts.map_instances == pytest.approx([10, 20])
    assert (shifts.n_transitions, shifts.total, shifts.mean) == (2, pytest.approx(33), pytest.approx(16.5))


def test_no_shift_across_a_gap() -> None:
    shifts = clip_shifts(moving_frames([0, 1, 100, 102]), times(0, 0.5, 1.5, 2.0), CONFIG)
    assert shifts.transitions.tolist() == [0, 2]
    assert shifts.agents == pytest.approx([1, 2])
    assert (shifts.n_transitions, shifts.total) == (2, pytest.approx(33))


def test_warm_up_is_reported_but_not_summed() -> None:
    config = ScoreConfig(warmup_frames=1)
    shifts = clip_shifts(moving_frames([0, 50, 51, 53]), times(0, 0.5, 1.0, 1.5), config)
    assert shifts.agents == pytest.approx([50, 1, 2])
    assert (shifts.n_transitions, shifts.total, shifts.mean) == (2, pytest.approx(33), pytest.approx(16.5))


@pytest.mark.parametrize(
    ("interval_s", "taken"), [(0.1, False), (0.34, True), (0.5, True), (0.75, True), (0.76, False)]
)
def test_only_intervals_near_the_nominal_one_are_transitions(interval_s: float, taken: bool) -> None:
    assert nominal_transitions(times(0, interval_s), CONFIG).tolist() == ([0] if taken else [])


def test_order_of_queries_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    frames = [frame(rng.normal(size=(9, 4)), rng.normal(size=(6, 4))) for _ in range(4)]
    shuffled = [frame(rng.permutation(f.agents), rng.permutation(f.map_instances)) for f in frames]
    stamps = times(0, 0.5, 1.0, 1.5)
    assert clip_shifts(frames, stamps, CONFIG).total == pytest.approx(clip_shifts(shuffled, stamps, CONFIG).total)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (7, 5), (1, 4), (6, 4), (3, 9)])
def test_one_dimension_has_a_closed_form(n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    a, b = rng.normal(size=(n, 1)), rng.normal(size=(m, 1)) * 3 + 1
    expected = ot.emd2(ot.unif(n), ot.unif(m), ot.dist(a, b, metric="euclidean"))
    assert earth_movers_distance(a, b) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 4))
def test_many_frames_at_once_give_the_same_numbers(seed: int, n: int, m: int, k: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(frames, n, k)), rng.normal(size=(frames, m, k)) * 2
    a[:, : n // 2] = b[:, :1]  # ties and coinciding points
    together = earth_movers_distances(a, b)
    assert together.shape == (frames,)
    weights = np.full(n, 1 / n), np.full(m, 1 / m)
    for x, y, distance in zip(a, b, together):
        assert distance == pytest.approx(earth_movers_distance(x, y), abs=1e-6)
        assert distance == pytest.approx(ot.emd2(*weights, ot.dist(x, y, metric="euclidean")), abs=1e-6)


def test_many_frames_of_a_real_size() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 300, 16)).astype(np.float32)
    b = a + rng.normal(size=(2, 300, 16)).astype(np.float32) * 0.3
    expected = [earth_movers_distance(x, y) for x, y in zip(a, b)]
    assert earth_movers_distances(a, b) == pytest.approx(expected, abs=1e-6)


def test_many_frames_need_pairs() -> None:
    with pytest.raises(ValueError, match="many frames"):
        earth_movers_distances(np.zeros((2, 3, 1)), np.zeros((3, 3, 1)))
    assert earth_movers_distances(np.zeros((0, 3, 1)), np.zeros((0, 3, 1))).shape == (0,)


def test_each_shift_has_its_own_sum() -> None:
    frames = moving_frames([0, 1, 3])
    with_bev = [replace(f, bev=np.full((4, 2), 5.0 * t, np.float32)) for t, f in enumerate(frames)]
    stamps = times(0, 0.5, 1.0)
    without = clip_shifts(frames, stamps, CONFIG)
    assert (without.bev, without.bev_total) == (None, None)
    shifts = clip_shifts(with_bev, stamps, ScoreConfig(warmup_frames=1))
    assert (shifts.agents_total, shifts.map_total) == (pytest.approx(2), pytest.approx(20))
    assert shifts.bev == pytest.approx([5 * 2**0.5] * 2)
    assert shifts.bev_total == pytest.approx(5 * 2**0.5)
