"""What a strategy sees of a clip, and what was spent. Nothing here costs an annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

import numpy as np

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.records import Clip, ClipScore, Selection


@dataclass(frozen=True)
class PoolClip:
    """One clip of the pool. Its `ClipScore` travels beside it, keyed by token.

    `stratum` is filled by `strata.with_strata` on the whole pool, before anything is bought; "" where unknown.
    """

    clip_token: str
    n_frames: int
    is_night: bool
    is_rainy: bool
    acc_std_mps2: float
    yaw_sum_rad: float
    dynamics_source: str  # can | pose
    behaviour: str
    stratum: str = ""

    @classmethod
    def from_clip(cls, clip: Clip) -> PoolClip:
        return cls(
            clip_token=clip.clip_token,
            n_frames=len(clip.frames),
            is_night=clip.is_night,
            is_rainy=clip.is_rainy,
            acc_std_mps2=clip.acc_std_mps2,
            yaw_sum_rad=clip.yaw_sum_rad,
            dynamics_source=clip.dynamics_source,
            behaviour=clip.behaviour,
        )


class Strategy(Protocol):
    """The signature of every strategy.

    Args:
        pool: clips not bought yet, in any order.
        scores: by clip token, of one model; None where there is no model yet.
        n_clips: how many clips to select.
        rng: the only source of randomness.
        config: settings of the selection.
        round: number written to each row.
        rank_by: `ScoreConfig.rank_by`; strategies that do not rank by feature shift ignore it.

    Returns:
        `n_clips` rows without a duplicate, `rank` 1 first.

    Raises:
        InputError: an empty pool, or more clips asked for than can be selected.
    """

    def __call__(
        self,
        pool: Sequence[PoolClip],
        scores: Mapping[str, ClipScore] | None,
        n_clips: int,
        rng: np.random.Generator,
        config: SelectConfig,
        round: int,
        rank_by: Literal["sum", "mean"] = "sum",
    ) -> list[Selection]: ...


@dataclass(frozen=True)
class Budget:
    """Clips and frames: budgets are in clips, as in the paper; what is annotated is frames."""

    pool_clips: int
    pool_frames: int
    clips: int = 0
    frames: int = 0

    @classmethod
    def spent(cls, pool: Sequence[PoolClip], selections: Sequence[Selection]) -> Budget:
        """What `selections` (of all rounds so far) took from the whole pool."""
        tokens = {selection.clip_token for selection in selections}
        frames = sum(selection.n_frames_bought for selection in selections)
        return cls(len(pool), sum(clip.n_frames for clip in pool), len(tokens), frames)

    @property
    def clip_share(self) -> float:
        return self.clips / self.pool_clips

    @property
    def frame_share(self) -> float:
        return self.frames / self.pool_frames


def sorted_pool(pool: Sequence[PoolClip], n_clips: int) -> list[PoolClip]:
    """The pool by token, checked: no strategy may depend on the order of rows.

    Raises:
        InputError: an empty pool, a token twice, or fewer clips than `n_clips`; also where `n_clips` is below 1.
    """
    if not pool:
        raise InputError("The pool is empty: there is no clip left to select from.")
    if n_clips < 1:
        raise InputError(f"A round must select at least 1 clip, but {n_clips} were asked for.")
    if n_clips > len(pool):
        raise InputError(f"The round asks for {n_clips} clips, but only {len(pool)} are left in the pool.")
    ordered = sorted(pool, key=lambda clip: clip.clip_token)
    for first, second in pairwise(ordered):
        if first.clip_token == second.clip_token:
            raise InputError(f"Clip {first.clip_token} is in the pool twice.")
    return ordered


def whole_clip(clip: PoolClip, round: int, rank: int, stratum: str, reason: str) -> Selection:
    """A row that buys all frames of a clip without a score."""
    return Selection(round, clip.clip_token, 0, clip.n_frames, rank, None, stratum, reason, clip.n_frames)
