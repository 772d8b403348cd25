"""The 12 strata of the initial selection (Eq. 1) and their quotas (Algorithm 1, round 0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

from sead_ray.errors import InputError
from sead_ray.selection.budget import round_share
from sead_ray.selection.pool import PoolClip

# Day or night, sunny or rainy; both, some (only one) or none of acceleration and turning in the valuable share.
STRATA = tuple(f"{light}{weather}-{dynamics}" for light in "DN" for weather in "SR" for dynamics in "BSN")

_WORDS = {"D": "day", "N": "night", "S": "sunny", "R": "rainy"}
_DYNAMICS = {
    "B": "both acceleration and turning among the highest",
    "S": "only one of acceleration and turning among the highest",
    "N": "neither acceleration nor turning among the highest",
}


def assign_strata(pool: Sequence[PoolClip], valuable_ratio: float) -> dict[str, str]:
    """Stratum of each clip, by token.

    Eq. 1 prints S = D_T - (B n N), which is all of D_T; the words say "only one", so S = D_T - (B u N) here.
    """
    acc_valuable = _valuable(pool, {clip.clip_token: clip.acc_std_mps2 for clip in pool}, valuable_ratio)
    yaw_valuable = _valuable(pool, {clip.clip_token: clip.yaw_sum_rad for clip in pool}, valuable_ratio)
    strata = {}
    for clip in pool:
        n_valuable = (clip.clip_token in acc_valuable) + (clip.clip_token in yaw_valuable)
        light, weather = "N" if clip.is_night else "D", "R" if clip.is_rainy else "S"
        strata[clip.clip_token] = f"{light}{weather}-{'NSB'[n_valuable]}"
    return strata


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


def _valuable(pool: Sequence[PoolClip], values: Mapping[str, float], ratio: float) -> set[str]:
    """Tokens of the highest share, ranked within each dynamics source, since CAN and pose estimates do not mix."""
    for token, value in values.items():
        if not isfinite(value):
            raise InputError(f"Clip {token} has no finite acceleration or yaw: prepare its dynamics again.")
    tokens: set[str] = set()
    for source in sorted({clip.dynamics_source for clip in pool}):
        members = [clip.clip_token for clip in pool if clip.dynamics_source == source]
        ranked = sorted(members, key=lambda token: (-values[token], token))
        tokens.update(ranked[: round_share(len(ranked), ratio)])
    return tokens
