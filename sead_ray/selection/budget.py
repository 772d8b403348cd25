"""How many clips each round buys."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

from sead_ray.errors import InputError


def round_share(n: int, share: float) -> int:
    """`share` of `n` to the nearest integer, halves up, of the share as it is written (0.29 of 50 is 15, not 14)."""
    return int((Decimal(repr(float(share))) * n).to_integral_value(ROUND_HALF_UP))


def round_sizes(pool_size: int, shares: Sequence[float]) -> list[int]:
    """Clips to buy in each round, at least one each.

    Args:
        pool_size: clips of the pool at the start of the run (the paper's percentages count those).
        shares: cumulative share of the pool after each round, `SelectConfig.rounds`.

    Raises:
        InputError: the budget exceeds the pool.
    """
    if pool_size < 1:
        raise InputError("The pool is empty: there is no clip to buy.")
    sizes: list[int] = []
    for share in shares:
        bought = sum(sizes)
        target = max(round_share(pool_size, share), bought + 1)
        if target > pool_size:
            raise InputError(
                f"The budget of {target} clips after {len(sizes) + 1} round(s) (select.rounds) exceeds the pool of "
                f"{pool_size}: lower the shares or give more clips."
            )
        sizes.append(target - bought)
    return sizes
