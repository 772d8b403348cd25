"""The paper's initial selection: a share of each of the 12 strata (Algorithm 1, round 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.records import ClipScore, Selection
from sead_ray.selection.pool import PoolClip, sorted_pool, whole_clip
from sead_ray.selection.strata import STRATA, assign_strata, describe_stratum, largest_remainder_quotas


def select(
    pool: Sequence[PoolClip],
    scores: Mapping[str, ClipScore] | None,
    n_clips: int,
    rng: np.random.Generator,
    config: SelectConfig,
    round: int,
    rank_by: Literal["sum", "mean"] = "sum",
) -> list[Selection]:
    """`Strategy`. Proportional quotas, uniformly at random within a stratum; ignores scores."""
    ordered = sorted_pool(pool, n_clips)
    strata = assign_strata(ordered, config.valuable_ratio)
    members = {name: [clip for clip in ordered if strata[clip.clip_token] == name] for name in STRATA}
    quotas = largest_remainder_quotas({name: len(clips) for name, clips in members.items()}, n_clips)
    selections: list[Selection] = []
    for name, clips in members.items():
        reason = f"Drawn at random, one of {quotas[name]} from {len(clips)} clips of {name} ({describe_stratum(name)})."
        for index in rng.choice(len(clips), size=quotas[name], replace=False) if quotas[name] else ():
            selections.append(whole_clip(clips[index], round, len(selections) + 1, name, reason))
    return selections
