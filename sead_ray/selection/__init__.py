"""Which clips are bought next: one pure function a strategy, all with the signature of `pool.Strategy`.

`select(pool, budget, rng, config)`. Every strategy gives the same rows whatever the order of the pool's rows, and the
same rows for the same generator state. Initial and incremental strategies are chosen independently.
"""

from __future__ import annotations

from sead_ray.selection.budget import Budget
from sead_ray.selection.pool import Pool, PoolClip, Strategy
from sead_ray.selection.registry import (
    INCREMENTAL,
    INITIAL,
    NEEDS_LABELLED,
    NEEDS_SCORES,
    NEEDS_START_FEATURES,
    STRATEGIES,
    needs,
    strategy,
)

__all__ = [
    "INCREMENTAL",
    "INITIAL",
    "NEEDS_LABELLED",
    "NEEDS_SCORES",
    "NEEDS_START_FEATURES",
    "STRATEGIES",
    "Budget",
    "Pool",
    "PoolClip",
    "Strategy",
    "needs",
    "strategy",
]
