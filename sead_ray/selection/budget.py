"""What each round may buy, and how a budget of frames is spent to the frame."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Selection


@dataclass(frozen=True)
class Budget:
    """What one round may buy: so many clips (as in the paper), or so many frames (what annotators are paid for)."""

    clips: int | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        if (self.clips is None) == (self.frames is None):
            raise ValueError("A budget is either in clips or in frames.")


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
    return _grown(pool_size, [round_share(pool_size, share) for share in shares], "clip")


def round_amounts(config: SelectConfig, pool_clips: int, pool_frames: int) -> list[int]:
    """Clips or frames (`config.budget_in`) that each round buys, at least one each.

    Raises:
        InputError: the budget exceeds the pool.
    """
    whole = pool_clips if config.budget_in == "clips" else pool_frames
    if config.amounts == "count":
        targets = [int(amount) for amount in config.rounds]
    else:
        percent = Decimal(100 if config.amounts == "percent" else 1)
        targets = [round_share(whole, float(Decimal(repr(float(amount))) / percent)) for amount in config.rounds]
    return _grown(whole, targets, config.budget_in.removesuffix("s"))


def round_budget(config: SelectConfig, number: int, pool_clips: int, pool_frames: int) -> Budget:
    """What round `number` may buy."""
    amount = round_amounts(config, pool_clips, pool_frames)[number]
    return Budget(clips=amount) if config.budget_in == "clips" else Budget(frames=amount)


def spend(
    budget: Budget,
    rng: np.random.Generator,
    size: tuple[int, int],
    choose: Callable[[int, np.random.Generator], list[Selection]],
    nested: bool = True,
) -> list[Selection]:
    """`choose(n, rng)` for a budget of n clips; for a budget of frames the fewest clips that hold them, the last
    bought run cut at its end.

    Args:
        size: clips that may be bought, and their frames.
        choose: n rows, best first.
        nested: whether the rows for fewer clips are the first of the rows for more; then one long list is enough.

    Raises:
        InputError: the clips together hold fewer frames.
    """
    if budget.clips is not None:
        return choose(budget.clips, rng)
    frames, (n_clips, n_frames) = budget.frames or 0, size
    if n_clips < 1:
        raise InputError("The pool is empty: there is no clip left to select from.")
    if frames < 1:
        raise InputError(f"A round must buy at least 1 frame, but {frames} were asked for.")
    if frames > n_frames:
        raise InputError(f"The round asks for {frames} frames, but only {n_frames} are left in the pool.")
    state = copy.deepcopy(rng)  # every attempt draws the same numbers
    attempt = min(n_clips, max(1, -(-frames * n_clips // n_frames)))
    rows = choose(attempt, copy.deepcopy(state))
    low = 0
    while (bought := sum(row.n_frames_bought for row in rows)) < frames:
        if attempt == n_clips:
            raise InputError(f"The round asks for {frames} frames, but the strategy can buy only {bought}.")
        low = attempt
        attempt = min(n_clips, max(attempt + 1, attempt * 3 // 2))
        rows = choose(attempt, copy.deepcopy(state))
    while not nested and attempt - low > 1:
        middle = (low + attempt) // 2
        fewer = choose(middle, copy.deepcopy(state))
        if sum(row.n_frames_bought for row in fewer) >= frames:
            attempt, rows = middle, fewer
        else:
            low = middle
    return cut_to_frames(rows, frames)


def cut_to_frames(rows: Sequence[Selection], frames: int) -> list[Selection]:
    """The first rows that hold `frames` frames, the last of them cut at its end to meet the number exactly."""
    kept: list[Selection] = []
    left = frames
    for row in rows:
        if left <= 0:
            break
        if row.n_frames_bought > left:
            reason = f"{row.reason.rstrip('.')}; cut from {row.n_frames_bought} to {left} frames by the budget."
            row = replace(row, frame_stop=row.frame_start + left, n_frames_bought=left, reason=reason)
        kept.append(row)
        left -= row.n_frames_bought
    return kept


def _grown(whole: int, targets: Sequence[int], unit: str) -> list[int]:
    if whole < 1:
        raise InputError("The pool is empty: there is no clip to buy.")
    sizes: list[int] = []
    bought = 0
    for target in targets:
        target = max(target, bought + 1)
        if target > whole:
            raise InputError(
                f"The budget of {target} {unit}s after {len(sizes) + 1} round(s) (select.rounds) exceeds the pool of "
                f"{whole}: lower select.rounds or give more clips."
            )
        sizes.append(target - bought)
        bought = target
    return sizes
