"""Whole clips, uniformly at random: the baseline of any round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.records import ClipScore, Selection
from sead_ray.selection.pool import PoolClip, sorted_pool, whole_clip


def select(
    pool: Sequence[PoolClip],
    scores: Mapping[str, ClipScore] | None,
    n_clips: int,
    rng: np.random.Generator,
    config: SelectConfig,
    round: int,
    rank_by: Literal["sum", "mean"] = "sum",
) -> list[Selection]:
    """`Strategy`. Ignores scores, so that it does not depend on a model."""
    ordered = sorted_pool(pool, n_clips)
    reason = f"Drawn uniformly at random, one of {n_clips} from {len(ordered)} clips."
    drawn = rng.choice(len(ordered), size=n_clips, replace=False)
    return [
        whole_clip(ordered[index], round, rank, ordered[index].stratum, reason) for rank, index in enumerate(drawn, 1)
    ]
