"""The paper's incremental selection: the largest feature shifts, of which only the key frames are bought."""

from __future__ import annotations

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.feature_shift import shift_columns, shift_value, shift_words
from sead_ray.selection.pool import DEFAULTS, Pool
from sead_ray.selection.purchase import buy_best, key_frame_filter
from sead_ray.selection.ranking import Ranker


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy` (Algorithm 1, lines 8 to 13). Streams the scores, which must be of one model.

    Failed clips are never selected. Of equal shifts the smaller token comes first. Uses no randomness.
    """
    size = pool.size() if budget.frames is not None else (0, 0)
    return spend(budget, rng, size, lambda n, _: buy_best(pool, n, ranker(pool, config), config))


def ranker(pool: Pool, config: SelectConfig) -> Ranker:
    """By feature shift, `config.shift` and `pool.rank_by`."""
    columns = tuple(shift_columns(pool, config.shift))
    return Ranker(columns, shift_value(pool, config.shift), shift_words(pool, config), key_frame_filter(config))
