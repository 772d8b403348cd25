"""Which clips each decoding task reads: a share of one row group of `clips.parquet`, named by its place in the file.

No row of the table passes through the driver or Ray's object store, and a task that is repeated reads its few clips
again instead of the file from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sead_ray.arrow import compute as pc
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.storage import Store

MAX_CLIPS_A_TASK = 64  # a lost node costs the decoding of so many
TASKS_A_DECODER = 256  # the last task of all runs alone for no longer than 1/256 of the whole

Place = tuple[int, int]  # row group, row in it

_SHARE = pa.schema([("group", pa.int32()), ("rows", pa.list_(pa.int32()))])


@dataclass(frozen=True)
class ClipSource:
    """The clips' file of a run as workers read it. `stamp`: of the file, since workers keep it open."""

    run: Store
    stamp: str

    @classmethod
    def of(cls, run: Store) -> ClipSource:
        return cls(run, run.stamps([layout.CLIPS_FILE])[layout.CLIPS_FILE])

    def shares(self, tokens: Sequence[str] | pa.Array, clips_a_task: int) -> pa.Table:
        """The clips `tokens` as shares of up to `clips_a_task`: row group and rows in it, in the file's order."""
        wanted = pa.array(tokens, pa.string())
        batches = self.run.iter_batches(layout.CLIPS_FILE, CLIP_SCHEMA, ["clip_token"])
        masks = [pc.is_in(batch.column("clip_token"), wanted).to_numpy(zero_copy_only=False) for batch in batches]
        mask = np.concatenate([np.zeros(0, bool), *masks])
        metadata = self._file.metadata
        shares: list[tuple[int, list[int]]] = []
        start = 0
        for group in range(metadata.num_row_groups):
            stop = start + metadata.row_group(group).num_rows
            rows = np.flatnonzero(mask[start:stop]).tolist()
            shares += [(group, rows[first : first + clips_a_task]) for first in range(0, len(rows), clips_a_task)]
            start = stop
        groups, rows_of = [group for group, _ in shares], [rows for _, rows in shares]
        return pa.table({"group": groups, "rows": rows_of}, schema=_SHARE)

    def places(self, shares: pa.Table) -> list[tuple[str, Place]]:
        """Token and place of each clip of these shares."""
        found = []
        for group, rows in zip(*(column.to_pylist() for column in shares.columns)):
            tokens = _group(self, group).column("clip_token").take(rows).to_pylist()
            found += [(token, (group, row)) for token, row in zip(tokens, rows)]
        return found

    def read(self, place: Place) -> Clip:
        group, row = place
        return Clip.from_row(_group(self, group).slice(row, 1).to_pylist()[0])

    @property
    def _file(self) -> pq.ParquetFile:
        return _open(self)


def clips_a_task(n_clips: int, max_decoders: int) -> int:
    """One of a small pool, so that all decoders are busy to the end; more of a large one, for fewer tasks."""
    return max(1, min(MAX_CLIPS_A_TASK, n_clips // (TASKS_A_DECODER * max_decoders)))


@lru_cache(maxsize=1)
def _open(source: ClipSource) -> pq.ParquetFile:
    return source.run.parquet_file(layout.CLIPS_FILE)


@lru_cache(maxsize=1)
def _group(source: ClipSource, group: int) -> pa.Table:
    return _open(source).read_row_group(group, use_threads=False)
