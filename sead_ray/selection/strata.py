"""The 12 strata of the initial selection (Eq. 1) and their quotas (Algorithm 1, round 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.selection.budget import round_share
from sead_ray.selection.pool import PoolClip, clips_table

# Day or night, sunny or rainy; both, some (only one) or none of acceleration and turning in the valuable share.
STRATA = tuple(f"{light}{weather}-{dynamics}" for light in "DN" for weather in "SR" for dynamics in "BSN")

_WORDS = {"D": "day", "N": "night", "S": "sunny", "R": "rainy"}
_DYNAMICS = {
    "B": "both acceleration and turning among the highest",
    "S": "only one of acceleration and turning among the highest",
    "N": "neither acceleration nor turning among the highest",
}


DYNAMICS_COLUMNS = ("is_night", "is_rainy", "acc_std_mps2", "yaw_sum_rad", "dynamics_source")


def table_strata(table: pa.Table, valuable_ratio: float) -> NDArray[np.str_]:
    """Stratum of each row of a table with `clip_token` and `DYNAMICS_COLUMNS`.

    Eq. 1 prints S = D_T - (B n N), which is all of D_T; the words say "only one", so S = D_T - (B u N) here.
    """
    n_valuable = _valuable(table, "acc_std_mps2", valuable_ratio).astype(int)
    n_valuable += _valuable(table, "yaw_sum_rad", valuable_ratio)
    night, rainy = (np.asarray(table.column(name).to_numpy(), bool) for name in ("is_night", "is_rainy"))
    return np.array(STRATA)[night * 6 + rainy * 3 + (2 - n_valuable)]


def assign_strata(pool: Sequence[PoolClip], valuable_ratio: float) -> dict[str, str]:
    """Stratum of each clip, by token."""
    strata = table_strata(clips_table(pool), valuable_ratio) if pool else []
    return {clip.clip_token: str(stratum) for clip, stratum in zip(pool, strata)}


def with_strata(pool: Sequence[PoolClip], valuable_ratio: float) -> list[PoolClip]:
    """The pool with `stratum` filled. Call it on the whole pool: the ranks are within D_T, not within what is left."""
    strata = assign_strata(pool, valuable_ratio)
    return [replace(clip, stratum=strata[clip.clip_token]) for clip in pool]


def describe_stratum(stratum: str) -> str:
    """A stratum's name in words."""
    return f"{_WORDS[stratum[0]]}, {_WORDS[stratum[1]]}, {_DYNAMICS[stratum[3]]}"


def largest_remainder_quotas(sizes: Mapping[str, int], n_clips: int) -> dict[str, int]:
    """Integer quotas of n_itr n(x,y) / sum n(x,y) whose sum is exactly `n_clips`.

    Floors first, then one more where the remainder is largest, in the order of `sizes` among equals. A quota never
    exceeds its stratum: n_clips <= sum gives floor + 1 <= size wherever a remainder is left.

    Raises:
        InputError: `n_clips` exceeds the sum of the sizes.
    """
    total = sum(sizes.values())
    if not 0 <= n_clips <= total:
        raise InputError(f"The round asks for {n_clips} clips, but the strata hold {total}.")
    if not total:
        return dict.fromkeys(sizes, 0)
    quotas = {name: n_clips * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: -(n_clips * sizes[name] % total))  # stable: ties keep their order
    for name in by_remainder[: n_clips - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _valuable(table: pa.Table, name: str, ratio: float) -> NDArray[np.bool_]:
    """Rows of the highest share, ranked within each dynamics source, since CAN and pose estimates do not mix."""
    values = table.column(name).to_numpy()
    tokens = table.column("clip_token")
    if not np.isfinite(values).all():
        token = tokens[int(np.argmin(np.isfinite(values)))].as_py()
        raise InputError(f"Clip {token} has no finite acceleration or yaw: prepare its dynamics again.")
    sources = table.column("dynamics_source").to_numpy(zero_copy_only=False)
    by_token = np.empty(len(table), np.int64)
    by_token[pc.sort_indices(tokens).to_numpy()] = np.arange(len(table))
    valuable = np.zeros(len(table), bool)
    for source in sorted(set(sources)):
        members = np.flatnonzero(sources == source)
        ranked = members[np.lexsort((by_token[members], -values[members]))]
        valuable[ranked[: round_share(len(ranked), ratio)]] = True
    return valuable
