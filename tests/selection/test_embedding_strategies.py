"""Strategies on embeddings: brute force on small cases, and what their papers claim on a constructed pool."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.selection import STRATEGIES, Budget, Pool
from sead_ray.selection.activeft import nearest_unique, parametric_centers, selection_loss
from sead_ray.selection.coreset import greedy_k_center
from sead_ray.selection.embedded import load_embedded, nearest
from sead_ray.selection.sead_diverse import suppress
from sead_ray.selection.vaal import labelled_probability
from tests.selection.pools import embedded_pool, index_of, make_clips, make_scores


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chosen(name: str, pool: Pool, n: int, seed: int = 0, **settings) -> list[int]:
    rows = STRATEGIES[name](pool, Budget(clips=n), rng(seed), SelectConfig(**settings))
    return [index_of(row) for row in rows]


def radius(points: np.ndarray, centers: np.ndarray) -> float:
    return float(cdist(points, centers).min(axis=1).max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_labelled", [0, 2])
def test_k_center_is_within_twice_the_optimum(seed: int, n_labelled: int) -> None:
    features = rng(seed).normal(size=(11, 3)).astype(np.float32)
    labelled = rng(seed + 100).normal(size=(n_labelled, 3)).astype(np.float32)
    taken, radii = greedy_k_center(features, labelled, 3, rng(seed))
    assert len(set(taken)) == 3
    best = min(
        radius(features, np.concatenate([features[list(centers)], labelled]))
        for centers in itertools.combinations(range(11), 3)
    )
    reached = radius(features, np.concatenate([features[taken], labelled]))
    assert best - 1e-6 <= reached <= 2 * best + 1e-6
    assert radii == sorted(radii, reverse=True)


def test_k_center_by_hand() -> None:
    """On a line with 0 labelled: 10 is farthest, then 4 (4 from 0, 6 from 10), then 7 (3 from both)."""
    features = np.array([[1.0], [4.0], [10.0], [7.0]], np.float32)
    taken, radii = greedy_k_center(features, np.zeros((1, 1), np.float32), 3, rng())
    assert (taken, radii) == ([2, 1, 3], [10.0, 4.0, 3.0])


@pytest.mark.parametrize("spread", [0.05, 1.0], ids=["clusters", "cloud"])
@pytest.mark.parametrize("n_labelled", [0, 30])
def test_k_center_equals_the_plain_algorithm_on_a_larger_pool(spread: float, n_labelled: int) -> None:
    centers = rng(3).normal(size=(40, 8))
    features = (centers[rng(4).integers(0, 40, 4000)] + rng(1).normal(size=(4000, 8)) * spread).astype(np.float32)
    labelled = rng(2).normal(size=(n_labelled, 8)).astype(np.float32)
    taken, radii = greedy_k_center(features, labelled, 120, rng())
    gap = cdist(features, labelled).min(axis=1) if n_labelled else np.full(4000, np.inf)
    for step, (index, radius) in enumerate(zip(taken, radii)):
        if step or n_labelled:
            assert gap[index] == pytest.approx(gap.max(), abs=1e-5)
            assert radius == pytest.approx(gap[index], abs=1e-5)
        gap = np.minimum(gap, cdist(features, features[index : index + 1])[:, 0])
    assert len(set(taken)) == 120


def test_k_center_takes_the_first_of_equals() -> None:
    """A grid full of ties: the plain algorithm in exact integers says which."""
    grid = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), -1).reshape(-1, 2).astype(np.float32)
    taken, _ = greedy_k_center(grid, grid[:1], 40, rng())
    gap = cdist(grid, grid[:1])[:, 0]
    for index in taken:
        assert index == int(np.argmax(gap))
        gap = np.minimum(gap, cdist(grid, grid[index : index + 1])[:, 0])
        gap[taken[: taken.index(index) + 1]] = -np.inf


def test_distances_tell_near_duplicates_far_from_the_origin_apart() -> None:
    points = torch.tensor([[1000.0, 0.0], [1000.0, 0.001]])
    assert nearest(points, points[:1]).tolist() == pytest.approx([0, 0.001], abs=1e-4)


def test_duplicates_are_taken_when_nothing_else_is_left() -> None:
    pool = embedded_pool(np.zeros((5, 2), np.float32))
    assert sorted(chosen("coreset", pool, 5)) == list(range(5))


# --- the constructed pool: five crowded clusters and ten points that stand alone ---


def long_tailed(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, cluster of each or -1, indices of the rare points): 5 clusters of 390, 60, 30, 15, 5 and 10 alone."""
    generator = rng(seed)
    sizes = (390, 60, 30, 15, 5)
    directions = np.linalg.qr(generator.normal(size=(16, 16)))[0] * 10
    clusters = [directions[i] + generator.normal(size=(size, 16)) * 0.3 for i, size in enumerate(sizes)]
    rare = directions[5:15] * 1.2
    features = np.concatenate([*clusters, rare]).astype(np.float32)
    labels = np.concatenate([np.full(size, i) for i, size in enumerate(sizes)] + [np.full(10, -1)])
    return features, labels, np.flatnonzero(labels == -1)


def found(name: str, seed: int, n: int, **settings) -> tuple[int, int]:
    """(clusters that were reached, rare points that were taken) of 5 and 10."""
    features, labels, rare = long_tailed(seed)
    taken = chosen(name, embedded_pool(features), n, seed, **settings)
    return len(set(labels[taken]) - {-1}), len(set(taken) & set(rare))


@pytest.mark.parametrize("seed", range(3))
def test_coreset_covers_clusters_and_finds_rare_points_where_random_does_not(seed: int) -> None:
    clusters, rare = found("coreset", seed, 15)
    assert (clusters, rare) == (5, 10)
    by_luck = [found("random", s, 15) for s in range(20)]
    assert np.mean([rare for _, rare in by_luck]) < 2
    assert sum(pair == (5, 10) for pair in by_luck) == 0


def test_activeft_covers_more_clusters_than_random() -> None:
    """Twelve clusters of 60 to 5 clips, twelve to buy; random doubles up in the crowded ones."""
    mine, luck = [], []
    for seed in range(5):
        generator = rng(seed)
        sizes = (60, 50, 40, 30, 25, 20, 20, 15, 15, 10, 10, 5)
        centers = np.linalg.qr(generator.normal(size=(16, 16)))[0] * 10
        features = np.concatenate([centers[i] + generator.normal(size=(size, 16)) for i, size in enumerate(sizes)])
        cluster, pool = np.repeat(np.arange(12), sizes), embedded_pool(features.astype(np.float32))
        mine.append(len(set(cluster[chosen("activeft", pool, 12, seed)])))
        luck += [len(set(cluster[chosen("random", pool, 12, s)])) for s in range(10)]
    assert np.mean(mine) > np.mean(luck) + 2
    assert np.mean(mine) > np.mean(luck) + 3 * np.std(luck) / np.sqrt(5)


def test_activeft_loss_falls_and_pushes_centers_apart() -> None:
    features = long_tailed(1)[0]
    start = parametric_centers(features, np.zeros((0, 16), np.float32), 12, rng(0), steps=0)
    end = parametric_centers(features, np.zeros((0, 16), np.float32), 12, rng(0), steps=200)
    points = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    nothing = points[:0]
    assert float(selection_loss(points, end, nothing)) < float(selection_loss(points, start, nothing)) - 1
    assert end.norm(dim=1).numpy() == pytest.approx(np.ones(12), abs=1e-5)


def test_activeft_loss_by_hand() -> None:
    """Two features on two orthogonal centres: -(1 + 1) / 2 / 0.07; each centre sees only the other, at similarity 0."""
    axes = torch.eye(2)
    assert float(selection_loss(axes, axes, axes[:0])) == pytest.approx(-1 / 0.07, rel=1e-5)
    # a fixed centre equal to the first: its regulariser becomes log(e^0 + e^(1 / 0.07))
    expected = -1 / 0.07 + (np.log1p(np.exp(1 / 0.07)) + np.log(2)) / 2
    assert float(selection_loss(axes, axes, axes[:1])) == pytest.approx(expected, rel=1e-4)


def test_each_center_takes_its_nearest_free_clip() -> None:
    features = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    taken, similarity = nearest_unique(features, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert taken == [0, 1, 2]
    assert similarity[0] == pytest.approx(1)


def test_vaal_prefers_what_looks_unlike_the_labelled() -> None:
    """Labelled: one cluster. Unlabelled: 90 more of it and 30 of another; random takes a quarter of those."""
    generator = rng(3)
    known, other = generator.normal(size=(150, 6)), generator.normal(size=(30, 6)) + 4
    features = np.concatenate([known, other]).astype(np.float32)
    pool = embedded_pool(features, labelled=range(60))
    taken = chosen("vaal", pool, 20, vaal_steps=150)
    assert sum(index >= 150 for index in taken) >= 15
    luck = [sum(index >= 150 for index in chosen("random", pool, 20, seed)) for seed in range(20)]
    assert max(luck) < 15


def test_vaal_on_front_images() -> None:
    """Dark pictures are labelled; of the unlabelled a third is bright."""
    generator = rng(4)
    dark = generator.integers(0, 60, (40, 32 * 32 * 3)) / 255
    bright = generator.integers(190, 255, (10, 32 * 32 * 3)) / 255
    odds = labelled_probability(
        dark[:20].astype(np.float32), np.concatenate([dark[20:], bright]).astype(np.float32), True, 30, 0
    )
    assert set(np.argsort(odds)[:8]) <= set(range(20, 30))


def test_vaal_does_not_touch_the_global_generator() -> None:
    features = rng(0).normal(size=(9, 4)).astype(np.float32)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = labelled_probability(features[:4], features[4:], False, 2, 1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.tolist() == labelled_probability(features[:4], features[4:], False, 2, 1).tolist()


def test_vaal_needs_labelled_clips() -> None:
    with pytest.raises(InputError, match="needs the features of labelled clips"):
        chosen("vaal", embedded_pool(rng().normal(size=(5, 3))), 2)


# --- feature shift without near-duplicates ---


def test_suppression_by_hand() -> None:
    """Visited in order: 0 is taken, 0.5 is too near, 2 is taken, 3 is too near to the labelled 3.2, 9 is taken."""
    features = torch.tensor([[0.0], [0.5], [2.0], [3.0], [9.0], [20.0]])
    assert suppress(features, torch.tensor([[3.2]]), 1.0, 3) == ([0, 2, 4], [1, 3])
    assert suppress(features, features[:0], 100.0, 2) == ([0], [1, 2, 3, 4, 5])


def test_sead_diverse_skips_the_same_street_and_fills_up_where_it_must() -> None:
    clips = make_clips(40)
    scores = make_scores(clips)
    order = sorted(scores, key=lambda token: (-scores[token].shift_sum, token))
    street = order[:12]  # the twelve largest shifts are passes of one street
    embeddings = {token: [5.0, 0.001 * i] if token in street else [i, -3.0] for i, token in enumerate(order)}
    pool = Pool.from_clips(clips, scores, embeddings)
    settings = SelectConfig(min_distance=0.01)
    plain = [row.clip_token for row in STRATEGIES["sead"](pool, Budget(clips=10), rng(), settings)]
    assert set(plain) <= set(street)
    diverse = STRATEGIES["sead_diverse"](pool, Budget(clips=10), rng(), settings)
    tokens = [row.clip_token for row in diverse]
    assert tokens[0] == order[0]
    assert len(set(tokens) & set(street)) == 1
    assert tokens[1:] == order[12:21]
    everything = STRATEGIES["sead_diverse"](pool, Budget(clips=40), rng(), settings)
    assert [row.clip_token for row in everything[29:]] == street[1:]
    assert "near-duplicate that fills" in everything[-1].reason


def test_without_a_minimum_distance_it_is_sead() -> None:
    clips = make_clips(20)
    pool = Pool.from_clips(clips, make_scores(clips))
    settings = SelectConfig(min_distance=0.0)
    pair = [STRATEGIES[name](pool, Budget(clips=7), rng(), settings) for name in ("sead", "sead_diverse")]
    assert [row.clip_token for row in pair[0]] == [row.clip_token for row in pair[1]]


def test_features_of_different_lengths_name_the_clip() -> None:
    clips = make_clips(3)
    ragged = {clip.clip_token: [0.0] * (2 + (i == 1)) for i, clip in enumerate(clips)}
    with pytest.raises(InputError, match="Clip clip-01 has 3 values of embedding"):
        load_embedded(Pool.from_clips(clips, make_scores(clips), ragged), rng(), 10)
    broken = {clip.clip_token: [0.0, float("nan") if i == 2 else 1.0] for i, clip in enumerate(clips)}
    with pytest.raises(InputError, match="Clip clip-02 has values of embedding that are not finite"):
        load_embedded(Pool.from_clips(clips, make_scores(clips), broken), rng(), 10)
