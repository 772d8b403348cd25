"""Features of a pool as matrices, for strategies that compare clips with each other; and exact distances in blocks.

Such strategies need all features in memory. Of a pool with more than `select.max_candidates` clips they see a uniform
sample of that many (and of as many labelled ones), drawn by the round's generator in the same streamed pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.selection.pool import Pool, check_request, check_unique
from sead_ray.selection.ranking import one_model, random_keys, random_salt

DISTANCE_BLOCK = 4096  # rows; a block's distances to as many others take 64 MB


@dataclass(frozen=True)
class EmbeddedPool:
    """Clips with features, sorted by token.

    Attributes:
        table: `clip_token`, `n_frames`, the stratum where it is known, and the asked columns of the clips that may be
            bought.
        features: (n, d) float32 of those clips.
        labelled: (m, d) float32 of the clips bought earlier.
        n_selectable: clips that may be bought, the sample's or not.
    """

    table: pa.Table
    features: NDArray[np.float32]
    labelled: NDArray[np.float32]
    n_selectable: int

    @property
    def sampled(self) -> str:
        """What a reason says where the strategy saw a sample only."""
        n = len(self.table)
        return f" of a sample of {n} from {self.n_selectable}" if n < self.n_selectable else ""

    def size(self) -> tuple[int, int]:
        return len(self.table), pc.sum(self.table.column("n_frames")).as_py() or 0


def load_embedded(
    pool: Pool, rng: np.random.Generator, limit: int, column: str = "embedding", extra: tuple[str, ...] = ()
) -> EmbeddedPool:
    """Features of the clips that may be bought and of the labelled ones; failed clips are left out.

    Raises:
        InputError: an empty pool, features of different lengths or models, or none at all.
    """
    salt = random_salt(rng)
    names = ["n_frames", column, *extra]
    names += [name for name in ("status", "model_version", "stratum") if name in pool.columns and name not in names]
    free, labelled = _Sample(limit), _Sample(limit)
    n_selectable = 0
    versions: set[str] = set()
    for batch in pool.batches(names):
        n_selectable += pc.sum(batch.column("selectable")).as_py() or 0
        if "model_version" in names:
            one_model(versions, batch)
        if "status" in names:
            batch = batch.filter(pc.equal(batch.column("status"), "ok"))
        free.add(batch.filter(batch.column("selectable")), salt)
        labelled.add(batch.filter(pc.invert(batch.column("selectable"))), salt)
    check_request(1, n_selectable)
    mine, theirs = free.table(), labelled.table()
    if mine is None:
        raise InputError(f"None of {n_selectable} clips of the pool could be scored: see their reasons.")
    features = matrix(mine, column)
    known = matrix(theirs, column) if theirs is not None else np.zeros((0, features.shape[1]), np.float32)
    if known.shape[1] != features.shape[1]:
        raise InputError(f"The clips' features have different lengths ({known.shape[1]} and {features.shape[1]}).")
    return EmbeddedPool(mine.drop_columns([column]), features, known, n_selectable)


def check_embedded(n_clips: int, pool: EmbeddedPool) -> None:
    """Raises `InputError` where `n_clips` cannot be bought from what could be scored (or from the sample)."""
    check_request(n_clips, pool.n_selectable)
    if n_clips > len(pool.table):
        raise InputError(
            f"The round asks for {n_clips} clips, but only {len(pool.table)} of {pool.n_selectable} clips of the pool "
            "can be compared: others failed in scoring, or exceed select.max_candidates."
        )


def matrix(table: pa.Table, column: str) -> NDArray[np.float32]:
    """(n, d) float32 of a column of lists, or of bytes (0 to 1).

    Raises:
        InputError: lists of different lengths, or values that are not finite; names the clip.
    """
    values = table.column(column).combine_chunks()
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        rows = [np.frombuffer(item, np.uint8) for item in values.to_pylist()]
        lengths, flat = np.array([len(row) for row in rows]), np.concatenate(rows).astype(np.float32) / 255
    else:
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        flat = pc.list_flatten(values).to_numpy(zero_copy_only=False).astype(np.float32)
    token = table.column("clip_token")
    if not len(lengths) or lengths[0] == 0 or (lengths != lengths[0]).any():
        index = int(np.argmax(lengths != max(lengths[0], 1))) if len(lengths) else 0
        raise InputError(f"Clip {token[index].as_py()} has {lengths[index]} values of {column}, others have more.")
    array = flat.reshape(len(lengths), -1)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InputError(f"Clip {token[int(np.argmax(bad))].as_py()} has values of {column} that are not finite.")
    return array


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def distances(points: Tensor, others: Tensor) -> Tensor:
    """(n, m) Euclidean distances, not through |a|^2 + |b|^2 - 2ab, which loses near duplicates to rounding."""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """(n,) distance of each point to the nearest of the others, block by block; inf where there is none."""
    found = torch.full((len(points),), torch.inf, device=points.device)
    for start in range(0, len(points) if len(others) else 0, DISTANCE_BLOCK):
        block = points[start : start + DISTANCE_BLOCK]
        parts = [distances(block, part).amin(dim=1) for part in others.split(DISTANCE_BLOCK)]
        found[start : start + DISTANCE_BLOCK] = torch.stack(parts).amin(dim=0)
    return found


def first_largest(values: Tensor) -> int:
    """Index of the largest value, the first of equals, on any device."""
    return int(torch.nonzero(values == values.max())[0, 0])


class _Sample:
    """A uniform sample of a stream by each token's random key; all rows while they are at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[pa.RecordBatch] = []
        self._rows = 0

    def add(self, batch: pa.RecordBatch, salt: bytes) -> None:
        if not len(batch):
            return
        keys = random_keys(batch.column("clip_token"), salt)
        self._parts.append(batch.append_column("key", pa.array(keys)))
        self._rows += len(batch)
        if self._rows > 2 * self._limit:
            self._prune()

    def table(self) -> pa.Table | None:
        """Sorted by token; None where nothing was added."""
        if not self._parts:
            return None
        self._prune()
        table = pa.Table.from_batches(self._parts).drop_columns(["key"]).sort_by("clip_token")
        check_unique(table.column("clip_token"))
        return table

    def _prune(self) -> None:
        if self._rows <= self._limit:
            return
        table = pa.Table.from_batches(self._parts)
        order = pc.sort_indices(table, sort_keys=[("key", "descending"), ("clip_token", "ascending")])
        kept = table.take(order[: self._limit]).combine_chunks()
        self._parts, self._rows = kept.to_batches(), len(kept)
