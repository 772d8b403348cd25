"""Random, cut to the number of frames that SEAD really bought: equal label cost, not equal numbers of clips.

SEAD's rounds count clips but buy key frames only, so that Random at the same number of clips pays for more labels.
The stage gives this strategy a budget in frames: what the run `select.match_run` bought in the same round.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection import random_clips
from sead_ray.selection.budget import Budget
from sead_ray.selection.pool import DEFAULTS, Pool


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. The clips of Random under the same generator, in its order; the last is cut to meet the frames."""
    rows = random_clips.select(pool, budget, rng, config)
    if budget.frames is None:
        return rows
    cost = f"at equal label cost, {budget.frames} frames in all"
    return [replace(row, reason=f"{row.reason.rstrip('.')}; {cost}.") for row in rows]
