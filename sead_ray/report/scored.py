"""A round's scores as people read them: the value that ranks, the place of each clip, and why it was not taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.config import RunConfig
from sead_ray.selection.feature_shift import NAMES, SUM_COLUMNS

RANKED_BY_SHIFT = ("sead", "sead_diverse")


@dataclass(frozen=True)
class ScoredRound:
    """What a round saw of the clips that it could buy.

    Attributes:
        table: of `read.score_table`; None in a round that scored nothing.
        purchases: its rows of SELECTION_SCHEMA, best first.
    """

    index: int
    strategy: str
    table: pa.Table | None
    purchases: Sequence[dict[str, Any]]
    config: RunConfig

    @property
    def value_name(self) -> str:
        return f"feature shift of {NAMES[self.config.select.shift]} ({self.config.score.rank_by})"

    @cached_property
    def cut(self) -> float | None:
        """The lowest value that was taken, where the strategy goes by the feature shift alone."""
        taken = [row["score"] for row in self.purchases if row["score"] is not None]
        return min(taken) if self.strategy in RANKED_BY_SHIFT and taken else None

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """(n,) feature shift of each row, as the configuration ranks; NaN where there is none."""
        if self.table is None:
            return np.zeros(0)
        name = SUM_COLUMNS[self.config.select.shift]
        if name not in self.table.column_names:
            name = "shift_sum"
        values = np.asarray(self.table.column(name).to_pylist(), float)
        if self.config.score.rank_by == "mean":
            values = values / np.maximum(self._column("n_transitions"), 1)
        return np.where(self.is_scored, values, np.nan)

    @cached_property
    def is_scored(self) -> NDArray[np.bool_]:
        """(n,) whether the row has a score."""
        return np.array([]) if self.table is None else self._column("status") == "ok"

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(n,) place by falling value, from 1 on, ties by token; 0 for clips that could not be bought or ranked."""
        ranks = np.zeros(len(self.values), np.int64)
        ranked = np.flatnonzero(self.is_scored & np.isfinite(self.values) & self._buyable)
        order = np.lexsort((self.tokens[ranked].astype(str), -self.values[ranked]))
        ranks[ranked[order]] = np.arange(1, len(ranked) + 1)
        return ranks

    @cached_property
    def tokens(self) -> NDArray[np.object_]:
        return np.array([], object) if self.table is None else self._column("clip_token")

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row numbers by clip token."""
        return {token: row for row, token in enumerate(self.tokens)}

    @cached_property
    def n_ranked(self) -> int:
        return int(self.ranks.max(initial=0))

    def why_not(self, token: str) -> str:
        """A sentence on a clip that this round did not take."""
        row = self.rows.get(token)
        if row is None or self.table is None:
            return f"Not among the {len(self.purchases)} clips that {self.strategy or 'the round'} took."
        if not self.is_scored[row]:
            return f"Could not be scored: {self.table.column('reason')[row].as_py()}"
        select = self.config.select
        if self.strategy not in RANKED_BY_SHIFT or self.cut is None:
            return f"{self.strategy or 'The round'} preferred others; its {self.value_name} is {self.values[row]:.3g}."
        if select.key_frames and select.without_key_frame == "next_ranked" and not self._column("key_length")[row]:
            return "It has no key frame, and its place went to the next (next_ranked)."
        near = (
            ", but it is too near to one of them"
            if self.strategy == "sead_diverse" and self.values[row] >= self.cut
            else ""
        )
        return (
            f"Ranks {self.ranks[row]} of {self.n_ranked} with a {self.value_name} of {self.values[row]:.3g}; "
            f"the last of {len(self.purchases)} taken has {self.cut:.3g}{near}."
        )

    @property
    def _buyable(self) -> NDArray[np.bool_]:
        if self.table is None or "selectable" not in self.table.column_names:
            return np.ones(len(self.values), bool)
        return np.array([value is not False for value in self.table.column("selectable").to_pylist()])

    def _column(self, name: str) -> NDArray[Any]:
        assert self.table is not None
        return self.table.column(name).to_numpy()
