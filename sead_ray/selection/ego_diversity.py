"""ActiveAD's initial selection (Lu et al. 2024, sec. 3.2): weather and light, then behaviour, then speed.

Each of the four sets of weather and light gets its share of the budget, each of its behaviours a share of that, both
by largest remainder; within such a leaf clips are taken evenly along their average speed. Nothing is random.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.config import SelectConfig
from sead_ray.records import Selection
from sead_ray.selection.budget import Budget, spend
from sead_ray.selection.pool import DEFAULTS, Pool, whole_clip
from sead_ray.selection.strata import largest_remainder_quotas

WEATHER_AND_LIGHT = ("DS", "DR", "NS", "NR")
BEHAVIOURS = ("straight", "left", "right", "overtake")
_COLUMNS = ("n_frames", "is_night", "is_rainy", "behaviour", "mean_speed_mps")


def select(pool: Pool, budget: Budget, rng: np.random.Generator, config: SelectConfig = DEFAULTS) -> list[Selection]:
    """`Strategy`. Reads free data only; uses no randomness."""
    extra = ["stratum"] if "stratum" in pool.columns else []
    table = pool.selectable([*_COLUMNS, *extra], budget.clips if budget.clips is not None else 1)
    size = (len(table), sum(table.column("n_frames").to_pylist()))
    return spend(budget, rng, size, lambda n, _: _choose(pool.round, table, n), nested=False)


def leaf_quotas(conditions: list[str], behaviours: list[str], n_clips: int) -> dict[tuple[str, str], int]:
    """How many clips each (weather and light, behaviour) gives; behaviours that we do not name come last."""
    sets = {name: conditions.count(name) for name in WEATHER_AND_LIGHT}
    kinds = [*BEHAVIOURS, *sorted(set(behaviours) - set(BEHAVIOURS))]
    quotas: dict[tuple[str, str], int] = {}
    for name, share in largest_remainder_quotas(sets, n_clips).items():
        inside = [kind for condition, kind in zip(conditions, behaviours) if condition == name]
        leaves = largest_remainder_quotas({kind: inside.count(kind) for kind in kinds}, share)
        quotas |= {(name, kind): quota for kind, quota in leaves.items()}
    return quotas


def evenly_along(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of `count` of the values, evenly along their order: the middles of `count` equal parts of it."""
    order = np.argsort(values, kind="stable")
    return order[((np.arange(count) + 0.5) * len(values) / max(count, 1)).astype(np.int64)]


def _choose(round: int, table: pa.Table, n_clips: int) -> list[Selection]:
    rows = table.to_pylist()
    conditions = [("N" if row["is_night"] else "D") + ("R" if row["is_rainy"] else "S") for row in rows]
    behaviours = [row["behaviour"] for row in rows]
    speeds = np.array([row["mean_speed_mps"] for row in rows])
    selections: list[Selection] = []
    for (condition, kind), quota in leaf_quotas(conditions, behaviours, n_clips).items():
        members = np.array([i for i, leaf in enumerate(zip(conditions, behaviours)) if leaf == (condition, kind)], int)
        for index in members[evenly_along(speeds[members], quota)] if quota else ():
            row = rows[index]
            reason = (
                f"Ego diversity: one of {quota} from {len(members)} clips of {condition}, {kind}, evenly along average "
                f"speed; this one drives {speeds[index]:.1f} m/s."
            )
            rank = len(selections) + 1
            selections.append(
                whole_clip(round, row["clip_token"], row["n_frames"], rank, reason, row.get("stratum", ""))
            )
    return selections
