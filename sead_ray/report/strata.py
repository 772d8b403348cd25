"""What the selection over- and under-represents: shares of each kind of clip in the pool and in what was bought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.selection.strata import STRATA, describe_stratum, table_strata

LOCATIONS_SHOWN = 12


@dataclass(frozen=True)
class Kind:
    """One kind of clips.

    Attributes:
        pool_share: of the pool's clips, 0 to 1.
        bought: number of bought clips of this kind after each round; shares: of all that is bought by then.
    """

    group: str
    name: str
    title: str
    n_pool: int
    pool_share: float
    bought: list[int]
    shares: list[float]

    @property
    def ratio(self) -> float | None:
        """Share of what is bought over share of the pool: above 1 it is over-represented. None before a purchase."""
        return self.shares[-1] / self.pool_share if self.shares and self.pool_share else None


def stratum_of(pool: pa.Table, valuable_ratio: float) -> NDArray[np.str_]:
    """SEAD's stratum (Eq. 1) of each row of `tables.clip_facts`; empty where a clip has no finite dynamics."""
    dynamics = [pool.column(name).to_numpy() for name in ("acc_std_mps2", "yaw_sum_rad")]
    if not len(pool) or not np.isfinite(dynamics).all():
        return np.full(len(pool), "", "<U4")
    return table_strata(pool.combine_chunks(), valuable_ratio)


def kinds_of(pool: pa.Table, strata: NDArray[np.str_], bought: Sequence[set[str]]) -> list[Kind]:
    """Every kind that the pool holds, by group.

    Args:
        pool: `tables.clip_facts` of the pool; strata: of its rows.
        bought: clip tokens after each round, cumulative.
    """
    tokens = np.asarray(pool.column("clip_token").to_pylist(), object)
    taken = [np.fromiter((token in clips for token in tokens), bool, len(tokens)) for clips in bought]
    kinds = []
    for group, name, title, members in _groups(pool, strata):
        n_pool = int(members.sum())
        if not n_pool:
            continue
        counts = [int((members & some).sum()) for some in taken]
        shares = [count / max(int(some.sum()), 1) for count, some in zip(counts, taken)]
        kinds.append(Kind(group, name, title, n_pool, n_pool / len(tokens), counts, shares))
    return kinds


def _groups(pool: pa.Table, strata: NDArray[np.str_]) -> list[tuple[str, str, str, NDArray[np.bool_]]]:
    night, rainy = (np.asarray(pool.column(name).to_pylist(), bool) for name in ("is_night", "is_rainy"))
    found: list[Any] = [("Stratum", name, describe_stratum(name), strata == name) for name in STRATA]
    found += [("Light", "day", "", ~night), ("Light", "night", "", night)]
    found += [("Weather", "dry", "", ~rainy), ("Weather", "rain", "", rainy)]
    for group, column in (("Behaviour", "behaviour"), ("Location", "location")):
        values = np.asarray(pool.column(column).to_pylist(), object)
        names, counts = np.unique(values.astype(str), return_counts=True)
        commonest = [names[i] for i in np.argsort(-counts, kind="stable")[:LOCATIONS_SHOWN]]
        found += [(group, str(name), "", values == name) for name in commonest]
    return found
