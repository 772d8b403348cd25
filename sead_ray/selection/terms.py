"""Named numbers of a scored clip, and their scaling to [0, 1] over a pool in one streamed pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.arrow import compute as pc
from sead_ray.config import SelectConfig
from sead_ray.selection.feature_shift import shift_columns, shift_value
from sead_ray.selection.pool import Pool
from sead_ray.selection.ranking import Value, column, finite


@dataclass(frozen=True)
class Term:
    """A number that is larger where a clip is more worth its labels; `columns` are what `value` reads."""

    columns: tuple[str, ...]
    value: Value


def make_terms(pool: Pool, config: SelectConfig) -> dict[str, Term]:
    """Every term by name."""

    def shift(kind: str) -> Term:
        return Term(tuple(shift_columns(pool, kind)), shift_value(pool, kind))

    def plain(name: str) -> Term:
        return Term((name,), lambda batch: column(batch, name))

    return {
        "shift": shift(config.shift),
        "shift_agents": shift("agents"),
        "shift_maps": shift("maps"),
        "shift_bev": shift("bev"),
        "displacement_error": plain("displacement_error_m"),
        "soft_collision": plain("soft_collision"),
        "agent_uncertainty": plain("agent_uncertainty"),
        "key_frames": Term(
            ("key_length", "n_frames"), lambda batch: column(batch, "key_length") / column(batch, "n_frames")
        ),
        "nearness": Term(("min_distance_m",), _nearness),
    }


TERMS = (
    *("shift", "shift_agents", "shift_maps", "shift_bev", "displacement_error", "soft_collision"),
    *("agent_uncertainty", "key_frames", "nearness"),
)


@dataclass(frozen=True)
class Range:
    """Least and largest value of a term over the clips that may be bought; `scale` maps them to 0 and 1."""

    least: float
    largest: float

    def scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """0 for all where all are equal: then the term says nothing."""
        width = self.largest - self.least
        return (values - self.least) / width if width > 0 else np.zeros_like(values)


def ranges(pool: Pool, terms: Sequence[Term]) -> list[Range]:
    """The range of each term over the scored clips that may be bought, in one pass."""
    columns = {name for term in terms for name in term.columns} | {"status"}
    least, largest = np.full(len(terms), np.inf), np.full(len(terms), -np.inf)
    for batch in pool.batches(sorted(columns)):
        batch = batch.filter(pc.and_(batch.column("selectable"), pc.equal(batch.column("status"), "ok")))
        for index, term in enumerate(terms if len(batch) else ()):
            values = finite(batch, term.value(batch))
            least[index] = min(least[index], values.min())
            largest[index] = max(largest[index], values.max())
    return [Range(float(low), float(high)) for low, high in zip(least, largest)]


def describe_terms(names: Sequence[str], parts: NDArray[np.float64], weights: Sequence[str]) -> list[str]:
    """For each row of (n, terms) scaled values: "displacement error 0.71 x 1, soft collision 0.02 x 1"."""
    words = [name.replace("_", " ") for name in names]
    return [
        ", ".join(f"{word} {part:.2f} {weight}" for word, part, weight in zip(words, row, weights)) for row in parts
    ]


def _nearness(batch: pa.RecordBatch) -> NDArray[np.float64]:
    """1 / (1 m + the clip's nearest participant's distance); 0 where nobody was detected."""
    lists = batch.column("min_distance_m")
    nearest = np.full(len(batch), np.inf)
    parents = pc.list_parent_indices(lists).to_numpy()
    np.minimum.at(nearest, parents, pc.list_flatten(lists).to_numpy(zero_copy_only=False))
    return 1 / (1 + nearest)
