"""A clip's feature shift as selection ranks by it: of agents and map (Eq. 3), of one of them, or of the whole BEV."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.config import SelectConfig
from sead_ray.errors import InputError
from sead_ray.selection.pool import Pool
from sead_ray.selection.ranking import Value, column

# `SelectConfig.shift` -> the column that holds its sum over a clip's transitions.
SUM_COLUMNS = {
    "agents_and_maps": "shift_sum",
    "agents": "shift_agents_sum",
    "maps": "shift_map_sum",
    "bev": "shift_bev_sum",
}
NAMES = {"agents_and_maps": "agents and maps", "agents": "agents", "maps": "maps", "bev": "whole BEV"}


def shift_columns(pool: Pool, shift: str) -> list[str]:
    """What `shift_value` reads."""
    if pool.rank_by == "sum":
        return [SUM_COLUMNS[shift]]
    return ["shift_mean"] if shift == "agents_and_maps" else [SUM_COLUMNS[shift], "n_transitions"]


def shift_value(pool: Pool, shift: str) -> Value:
    """The feature shift of each row of a batch: `pool.rank_by` sum or mean."""
    columns = shift_columns(pool, shift)

    def value(batch: pa.RecordBatch) -> NDArray[np.float64]:
        if batch.column(columns[0]).null_count:
            raise InputError(
                f"The scores hold no feature shift of the {NAMES[shift]}: score the pool again with score.bev_shift."
            )
        values = column(batch, columns[0])
        return values / np.maximum(column(batch, columns[1]), 1) if len(columns) > 1 else values

    return value


def shift_words(pool: Pool, config: SelectConfig) -> str:
    """How a reason names the shift."""
    return f"Feature shift of {NAMES[config.shift]} ({pool.rank_by})"
