"""Which clips a stage has done: small Parquet files, written atomically, so that a restart does the rest.

Ray Data's own checkpoint works by block and loses small pools; this works by clip. A part is what one task finished.
The driver merges parts into runs, sorted by token, while the stage goes on: a million clips are some hundred files,
whose tokens a restart reads in seconds, and which become one sorted table without being held in memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from sead_ray.arrow import compute as pc
from sead_ray.storage import Store

COMPACT_EVERY_S = 5.0
PARTS_A_RUN = 128
RUN_GROUP = 512  # rows; a slice of the tokens is read from each run, and little beside it
SLICE_ROWS, GROUP_ROWS = 65_536, 8192  # of the table that comes out: sorted at a time, and a row group

_RUN = "run-"


@dataclass(frozen=True)
class Ledger:
    """A folder of files, each of one clip or many. Picklable: Ray's tasks add to it.

    A task that is repeated with the same clips writes the same file; with others, a clip's first row counts.
    """

    run: Store
    folder: str
    schema: pa.Schema

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows with a `clip_token`, one a clip."""
        tokens = sorted(row["clip_token"] for row in rows)
        self.run.write_table(f"{self.folder}/{_named(tokens)}.parquet", list(rows), self.schema)

    def done(self) -> pa.Array:
        """Tokens of the finished clips, in no order; one may come twice."""
        return self._read(self._files(), ["clip_token"]).column("clip_token").combine_chunks()

    @contextmanager
    def compacting(self) -> Generator[None, None, None]:
        """A thread merges parts while the block runs; its error, if any, is raised at the end."""
        ended = threading.Event()

        def merge() -> None:
            while not ended.wait(COMPACT_EVERY_S):
                self.compact()

        with ThreadPoolExecutor(1, "ledger") as thread:
            merging = thread.submit(merge)
            try:
                yield
            finally:
                ended.set()
        merging.result()

    def compact(self, all_parts: bool = False) -> None:
        """Merges parts into runs, `PARTS_A_RUN` into each; the rest stays unless `all_parts`. Killed, it loses none."""
        parts = [name for name in self._files() if not name.startswith(_RUN)]
        while len(parts) >= (1 if all_parts else PARTS_A_RUN):
            some, parts = parts[:PARTS_A_RUN], parts[PARTS_A_RUN:]
            table = _first_of_each(_sorted(self._read(some)))
            groups = (table.slice(start, RUN_GROUP) for start in range(0, len(table), RUN_GROUP))
            self.run.write_groups(f"{self.folder}/{_RUN}{_named(some)}.parquet", groups, self.schema)
            for name in some:
                self.run.remove(f"{self.folder}/{name}")

    def merged(self, clip_tokens: pa.Array) -> Iterator[pa.Table]:
        """The rows of these clips sorted by token, in tables of up to `GROUP_ROWS`; every one must be there.

        Holds `SLICE_ROWS` rows at a time.
        """
        self.compact(all_parts=True)
        wanted = pc.call_function("unique", [clip_tokens]).sort()
        files = self._dataset(self._files())
        token, found = pads.field("clip_token"), 0
        for start in range(0, len(wanted), SLICE_ROWS):
            part = wanted.slice(start, SLICE_ROWS)
            rows = files.to_table(filter=(token >= part[0]) & (token <= part[-1]), use_threads=False)
            rows = rows.filter(pc.is_in(rows.column("clip_token"), part))
            rows = _first_of_each(_sorted(rows))
            found += len(rows)
            for offset in range(0, len(rows), GROUP_ROWS):
                yield rows.slice(offset, GROUP_ROWS)
        if found < len(wanted):
            raise RuntimeError(f"{self.run.path(self.folder)} lacks {len(wanted) - found} of {len(wanted)} clips")

    def rows(self, clip_tokens: Sequence[str]) -> list[dict[str, Any]]:
        """The same as rows, for a few clips."""
        return [row for table in self.merged(pa.array(clip_tokens, pa.string())) for row in table.to_pylist()]

    def _files(self) -> list[str]:
        return self.run.list(self.folder, suffix=".parquet")

    def _dataset(self, names: Sequence[str]) -> pads.Dataset:
        fs, folder = self.run.filesystem(self.folder)
        return pads.dataset([f"{folder}/{name}" for name in names], self.schema, "parquet", fs)

    def _read(self, names: Sequence[str], columns: list[str] | None = None) -> pa.Table:
        if not names:
            table = self.schema.empty_table()
            return table if columns is None else table.select(columns)
        return self._dataset(names).to_table(columns, use_threads=False)


def _named(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


def _sorted(rows: pa.Table) -> pa.Table:
    return rows.take(pc.call_function("array_sort_indices", [rows.column("clip_token").combine_chunks()]))


def _first_of_each(sorted_rows: pa.Table) -> pa.Table:
    """Without the rows whose token is that of the row before."""
    tokens = sorted_rows.column("clip_token").combine_chunks()
    if len(tokens) < 2:
        return sorted_rows
    differs = pc.not_equal(tokens.slice(1), tokens.slice(0, len(tokens) - 1))
    return sorted_rows.filter(pa.concat_arrays([pa.array([True]), differs]))
