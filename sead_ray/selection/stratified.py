"""The paper's initial selection: a share of each of the 12 strata (Algorithm 1, round 0)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.pool import DEFAULTS, Pool, whole_clip
from sead_ray.selection.ranking import random_keys, random_salt
from sead_ray.selection.strata import DYNAMICS_COLUMNS, STRATA, describe_stratum, largest_remainder_quotas, table_strata


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Proportional quotas, uniformly at random within a stratum; reads no score."""
    table = pool.selectable(["n_frames", *DYNAMICS_COLUMNS], budget.clips if budget.clips is not None else 1)
    strata = table_strata(table, config.valuable_ratio)
    size = (len(table), sum(table.column("n_frames").to_pylist()))
    return spend(budget, rng, size, lambda n, draw: _draw(pool.round, table, strata, n, draw), nested=False)


def _draw(round: int, table: pa.Table, strata: np.ndarray, n_clips: int, rng: np.random.Generator) -> list[Selection]:
    keys = random_keys(table.column("clip_token").combine_chunks(), random_salt(rng))
    members = {name: np.flatnonzero(strata == name) for name in STRATA}
    quotas = largest_remainder_quotas({name: len(rows) for name, rows in members.items()}, n_clips)
    tokens, n_frames = table.column("clip_token"), table.column("n_frames")
    selections: list[Selection] = []
    for name, rows in members.items():
        reason = f"Drawn at random, one of {quotas[name]} from {len(rows)} clips of {name} ({describe_stratum(name)})."
        for row in rows[np.argsort(-keys[rows], kind="stable")][: quotas[name]].tolist():
            rank = len(selections) + 1
            selections.append(whole_clip(round, tokens[row].as_py(), n_frames[row].as_py(), rank, reason, name))
    return selections
