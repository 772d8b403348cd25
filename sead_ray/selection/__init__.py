"""Which clips are bought next: one pure function a strategy, all with the signature of `pool.Strategy`.

`select(pool, budget, rng, config)`. Every strategy gives the same rows whatever the order of the pool's rows, and the
same rows for the same generator state. Initial and incremental strategies are chosen independently.
"""

from __future__ import annotations

from sead_ray.selection.activead import select as _activead
from sead_ray.selection.activeft import select as _activeft
from sead_ray.selection.budget import Budget
from sead_ray.selection.coreset import select as _coreset
from sead_ray.selection.ego_diversity import select as _ego_diversity
from sead_ray.selection.pool import Pool, PoolClip, Strategy
from sead_ray.selection.random_clips import select as _random
from sead_ray.selection.random_frames import select as _random_frames
from sead_ray.selection.sead import select as _sead
from sead_ray.selection.sead_diverse import select as _sead_diverse
from sead_ray.selection.stratified import select as _stratified
from sead_ray.selection.vaal import select as _vaal
from sead_ray.selection.weighted import select as _weighted

INITIAL: dict[str, Strategy] = {
    "random": _random,
    "stratified": _stratified,
    "ego_diversity": _ego_diversity,
    "activeft": _activeft,
}
INCREMENTAL: dict[str, Strategy] = {
    "random": _random,
    "random_frames": _random_frames,
    "sead": _sead,
    "sead_diverse": _sead_diverse,
    "coreset": _coreset,
    "vaal": _vaal,
    "activeft": _activeft,
    "activead": _activead,
    "weighted": _weighted,
}
STRATEGIES: dict[str, Strategy] = {**INITIAL, **INCREMENTAL}

# What each strategy reads beside free data: scores of the round's model, or features of the starting backbone.
NEEDS_SCORES = frozenset({"sead", "sead_diverse", "coreset", "vaal", "activead", "weighted"})
NEEDS_START_FEATURES = frozenset({"activeft"})
# Those for which the features of labelled clips count: the labelled clips are scored too, and cannot be selected.
NEEDS_LABELLED = frozenset({"coreset", "vaal", "sead_diverse"})

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
]
