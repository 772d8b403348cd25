"""Coreset: greedy k-centre on clip embeddings, seeded by the labelled set (Sener & Savarese 2018, Algorithm 1).

Each step takes the clip that is farthest from everything labelled or taken so far, which covers the pool with at most
twice the smallest possible radius. Distances are exact; memory and work are O(pool) a step, O(budget x pool) in all.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.embedded import (
    EmbeddedPool,
    check_embedded,
    device,
    distances,
    first_largest,
    load_embedded,
    nearest,
)
from sead_ray.selection.pool import DEFAULTS, Pool


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Whole clips; the generator draws the first clip where nothing is labelled, and the sample of a pool
    beyond `config.max_candidates`."""
    embedded = load_embedded(pool, rng, config.max_candidates)
    return spend(budget, rng, embedded.size(), lambda n, draw: _rows(pool.round, embedded, n, draw))


def greedy_k_center(
    features: NDArray[np.float32], labelled: NDArray[np.float32], count: int, rng: np.random.Generator
) -> tuple[list[int], list[float]]:
    """Indices of `count` rows of (n, d) `features`, and each one's distance to all before it when it was taken.

    Args:
        labelled: (m, d) centres that are there already.
        rng: draws the first where there are none; its distance is infinite.
    """
    points = torch.from_numpy(features).to(device())
    gap = nearest(points, torch.from_numpy(labelled).to(points))
    chosen: list[int] = []
    radii: list[float] = []
    for _ in range(count):
        index = first_largest(gap) if len(labelled) or chosen else int(rng.integers(len(features)))
        chosen.append(index)
        radii.append(float(gap[index]))
        torch.minimum(gap, distances(points, points[index : index + 1])[:, 0], out=gap)
        gap[index] = -torch.inf  # a duplicate of a taken clip has distance 0 and may still be needed
    return chosen, radii


def _rows(round: int, pool: EmbeddedPool, n_clips: int, rng: np.random.Generator) -> list[Selection]:
    check_embedded(n_clips, pool)
    chosen, radii = greedy_k_center(pool.features, pool.labelled, n_clips, rng)
    selections = []
    for rank, (row, radius) in enumerate(zip(pool.table.take(chosen).to_pylist(), radii), 1):
        far = f"{radius:.4g} from the nearest clip labelled or taken before it"
        what = far if np.isfinite(radius) else "drawn at random, since nothing is labelled yet"
        reason = f"k-centre: the farthest clip{pool.sampled}, {what}; the whole clip is bought."
        score = radius if np.isfinite(radius) else None
        frames = row["n_frames"]
        selections.append(
            Selection(round, row["clip_token"], 0, frames, rank, score, row.get("stratum", ""), reason, frames)
        )
    return selections
