"""Feature shift without near-duplicates: SEAD's ranking, skipping clips too like one that is taken already.

A fleet drives the same street every day, and the paper's ranking would buy every pass. Clips are visited by
descending feature shift; one whose embedding is nearer than `select.min_distance` to a labelled or a taken clip is put
back, and fills the round at its end only where too few others are left.
"""

from __future__ import annotations

import numpy as np
import torch

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.embedded import device, distances, load_embedded, matrix, nearest
from sead_ray.selection.feature_shift import shift_columns, shift_value, shift_words
from sead_ray.selection.pool import DEFAULTS, Pool
from sead_ray.selection.purchase import buy_in_order, check_enough, columns_of, key_frame_filter
from sead_ray.selection.ranking import top_n


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Key frames as for `sead`; only the `config.max_candidates` largest shifts are compared."""
    size = pool.size() if budget.frames is not None else (0, 0)
    spread_and_labelled = _surroundings(pool, rng, config)
    return spend(budget, rng, size, lambda n, _: _diverse(pool, n, config, *spread_and_labelled), nested=False)


def suppress(
    features: torch.Tensor, labelled: torch.Tensor, min_distance: float, count: int
) -> tuple[list[int], list[int]]:
    """Visits (n, d) `features` in order; (indices at least `min_distance` from labelled and taken ones, the others
    that were passed before `count` were found)."""
    gap = nearest(features, labelled)
    taken: list[int] = []
    passed: list[int] = []
    for index in range(len(features)):
        if len(taken) == count:
            break
        if float(gap[index]) < min_distance:
            passed.append(index)
            continue
        taken.append(index)
        torch.minimum(gap, distances(features, features[index : index + 1])[:, 0], out=gap)
    return taken, passed


def _surroundings(pool: Pool, rng: np.random.Generator, config: SelectConfig) -> tuple[float, torch.Tensor]:
    """The minimum distance in the embedding's own units, and the labelled clips' embeddings.

    The unit is the root mean square distance between two clips, which is sqrt(2) times that to the mean.
    """
    embedded = load_embedded(pool, rng, config.max_candidates)
    centred = embedded.features - embedded.features.mean(axis=0, dtype=np.float64)
    unit = float(np.sqrt(2 * (centred**2).sum(axis=1).mean()))
    return config.min_distance * unit, torch.from_numpy(embedded.labelled).to(device())


def _diverse(
    pool: Pool, n_clips: int, config: SelectConfig, min_distance: float, labelled: torch.Tensor
) -> list[Selection]:
    columns = columns_of(pool, "embedding", *shift_columns(pool, config.shift))
    n_compared = max(n_clips, config.max_candidates)
    ranking = top_n(pool, n_compared, columns, shift_value(pool, config.shift), key_frame_filter(config))
    check_enough(n_clips, ranking, config)
    features = torch.from_numpy(matrix(ranking.table, "embedding")).to(device())
    taken, passed = suppress(features, labelled, min_distance, n_clips)
    order = [*taken, *passed[: n_clips - len(taken)]]
    table = ranking.table.drop_columns(["embedding"]).take(order)
    words = shift_words(pool, config)
    kinds = ["no near-duplicate"] * len(taken) + ["a near-duplicate that fills the round"] * (n_clips - len(taken))
    whys = [
        f"{words} {value:.4g} ranks {place + 1} of {ranking.n_ranked}; {kind}"
        for value, place, kind in zip(table.column("value").to_pylist(), order, kinds)
    ]
    return buy_in_order(pool, table, config, whys)
