"""Whole clips, uniformly at random: the baseline of any round (Table 1, Random; Table 3, RA)."""

from __future__ import annotations

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.pool import DEFAULTS, Pool, check_request, whole_clip
from sead_ray.selection.ranking import random_keys, random_salt, top_n


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Reads no score, so that it does not depend on a model."""
    size = pool.size() if budget.frames is not None else (0, 0)
    return spend(budget, rng, size, lambda n, draw: _draw(pool, n, draw))


def _draw(pool: Pool, n_clips: int, rng: np.random.Generator) -> list[Selection]:
    salt = random_salt(rng)
    columns = ["n_frames", *(["stratum"] if "stratum" in pool.columns else [])]
    drawn = top_n(pool, n_clips, columns, lambda batch: random_keys(batch.column("clip_token"), salt))
    check_request(n_clips, drawn.n_selectable)
    reason = f"Drawn uniformly at random from {drawn.n_selectable} clips."
    return [
        whole_clip(pool.round, row["clip_token"], row["n_frames"], rank, reason, row.get("stratum", ""))
        for rank, row in enumerate(drawn.table.to_pylist(), 1)
    ]
