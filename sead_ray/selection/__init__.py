"""Which clips are bought next: one pure function a strategy, all with the signature of `Strategy`.

`select(pool, scores, n_clips, rng, config, round)`: `pool` is what is not bought yet. Every strategy gives the same
rows whatever the order of the pool's rows, and the same rows for the same generator state.
"""

from __future__ import annotations

from sead_ray.selection.pool import Budget, PoolClip, Strategy
from sead_ray.selection.random_clips import select as _random
from sead_ray.selection.sead import select as _sead
from sead_ray.selection.stratified import select as _stratified

INITIAL: dict[str, Strategy] = {"stratified": _stratified, "random": _random}
INCREMENTAL: dict[str, Strategy] = {"sead": _sead, "random": _random}
STRATEGIES: dict[str, Strategy] = {**INITIAL, **INCREMENTAL}

__all__ = ["INCREMENTAL", "INITIAL", "STRATEGIES", "Budget", "PoolClip", "Strategy"]
