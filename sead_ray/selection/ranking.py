"""The best clips of a stream by (value descending, token ascending), in memory that does not grow with the pool."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.selection.pool import Pool, check_request, check_unique

ORDER = [("value", "descending"), ("clip_token", "ascending")]

# One value a row of a batch; and which of its rows may be ranked at all.
Value = Callable[[pa.RecordBatch], NDArray[np.float64]]
Filter = Callable[[pa.RecordBatch], pa.Array]


@dataclass(frozen=True)
class Ranker:
    """How a strategy ranks.

    Attributes:
        columns: what `value` and `keep` read; value: the larger the better; keep: which clips are ranked at all.
        words: how a reason names the value; detail: for each row of a batch, what the value is made of.
    """

    columns: tuple[str, ...]
    value: Value
    words: str
    keep: Filter | None = None
    detail: Callable[[pa.RecordBatch], list[str]] | None = None


@dataclass(frozen=True)
class Ranking:
    """The first `n` of a pool.

    Attributes:
        table: the asked columns and `value`, best first.
        n_selectable: clips that may be bought; n_failed: those of them whose scoring failed.
        n_ranked: those that were ranked: not failed, and let through by the filter.
    """

    table: pa.Table
    n_selectable: int
    n_failed: int
    n_ranked: int


def top_n(pool: Pool, n: int, columns: Collection[str], value: Value, keep: Filter | None = None) -> Ranking:
    """The `n` best clips (fewer where fewer can be ranked), in one pass.

    Args:
        columns: what `value`, `keep` and the caller read. With `status` among them, failed clips are left out and
            all clips must be scored by one model (`model_version`).
        value: what clips are ranked by, the larger the better.

    Raises:
        InputError: nothing selectable, scores of several models, a value that is not finite, a token twice.
    """
    scored = "status" in columns
    names = [*columns, *(["model_version"] if scored else [])]
    best = _Best(n)
    n_selectable = n_failed = n_ranked = 0
    versions: set[str] = set()
    for batch in pool.batches(names):
        batch = batch.filter(batch.column("selectable"))
        n_selectable += len(batch)
        if scored:
            one_model(versions, batch)
            ok = pc.equal(batch.column("status"), "ok")
            n_failed += len(batch) - (pc.sum(ok).as_py() or 0)
            batch = batch.filter(ok)
        if keep is not None:
            batch = batch.filter(keep(batch))
        n_ranked += len(batch)
        if len(batch):
            best.add(batch, finite(batch, value(batch)))
    check_request(1, n_selectable)  # an empty pool; where fewer than n are ranked, the caller knows why
    return Ranking(best.table(), n_selectable, n_failed, n_ranked)


def finite(batch: pa.RecordBatch, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values, once they are known to be finite."""
    if not np.isfinite(values).all():
        token = batch.column("clip_token")[int(np.argmin(np.isfinite(values)))].as_py()
        raise InputError(f"Clip {token} has a score that is not a number: score it again.")
    return values


def one_model(versions: set[str], batch: pa.RecordBatch) -> None:
    """Adds the batch's model versions to `versions`; scores of different models may not be mixed."""
    versions.update(pc.unique(batch.column("model_version")).to_pylist())
    if len(versions) > 1:
        raise InputError(
            f"The scores are of different models ({', '.join(sorted(map(str, versions)))}) and may not be mixed."
        )


def column(batch: pa.RecordBatch, name: str) -> NDArray[np.float64]:
    """A column as float64, nulls as NaN."""
    return batch.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)


def random_keys(tokens: pa.Array, salt: bytes) -> NDArray[np.float64]:
    """A uniform number in [0, 1) for each token that depends on the token and the salt alone.

    Drawing the n clips of the largest keys is a uniform draw without replacement that needs one pass, no list of the
    pool and no order of its rows.
    """
    digests = b"".join(hashlib.blake2b(t.encode(), key=salt, digest_size=8).digest() for t in tokens.to_pylist())
    return (np.frombuffer(digests, "<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53


def random_salt(rng: np.random.Generator) -> bytes:
    return rng.bytes(16)


class _Best:
    """The running first n of all batches added so far."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._parts: list[pa.RecordBatch] = []
        self._rows = 0
        self._least = -np.inf  # value of the n-th best so far: less cannot get in any more

    def add(self, batch: pa.RecordBatch, values: NDArray[np.float64]) -> None:
        batch = batch.append_column("value", pa.array(values))
        if np.isfinite(self._least):
            batch = batch.filter(pa.array(values >= self._least))
        self._parts.append(batch)
        self._rows += len(batch)
        if self._rows > 2 * self._n + 100_000:
            self._prune()

    def table(self) -> pa.Table:
        self._prune()
        if not self._parts:
            return pa.table({"clip_token": pa.array([], pa.string()), "value": pa.array([], pa.float64())})
        table = pa.Table.from_batches(self._parts)
        check_unique(table.column("clip_token").combine_chunks().sort())
        return table

    def _prune(self) -> None:
        if not self._parts:
            return
        table = pa.Table.from_batches(self._parts)
        first = table.take(pc.sort_indices(table, sort_keys=ORDER)[: self._n]).combine_chunks()
        self._parts, self._rows = first.to_batches(), len(first)
        if len(first) == self._n and self._n:
            self._least = first.column("value")[-1].as_py()
