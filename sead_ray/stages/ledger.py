"""Which clips a stage has done: a small Parquet file for each batch of clips, written atomically, so that a restart
does the rest.

Ray Data's own checkpoint works by block and loses small pools; this works by clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sead_ray.storage import Store


@dataclass(frozen=True)
class Ledger:
    """A folder of small files, each of one clip or a few. Picklable: Ray's tasks add to it.

    A task that is repeated with the same clips writes the same file; with others, a clip's first row counts.
    """

    run: Store
    folder: str
    schema: pa.Schema

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows with a `clip_token`, one a clip."""
        tokens = sorted(row["clip_token"] for row in rows)
        name = hashlib.sha256("\n".join(tokens).encode()).hexdigest()[:32]
        self.run.write_table(f"{self.folder}/{name}.parquet", list(rows), self.schema)

    def done(self) -> set[str]:
        return {row["clip_token"] for row in self._rows(["clip_token"])}

    def rows(self, clip_tokens: Collection[str]) -> list[dict[str, Any]]:
        """The rows of these clips, sorted by token; every one must be there."""
        wanted = set(clip_tokens)
        found: dict[str, dict[str, Any]] = {}
        for row in self._rows():
            if row["clip_token"] in wanted:
                found.setdefault(row["clip_token"], row)
        if missing := len(wanted) - len(found):
            raise RuntimeError(f"{self.run.path(self.folder)} lacks {missing} of {len(wanted)} clips")
        return [found[token] for token in sorted(found)]

    def _rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        for name in self.run.list(self.folder, suffix=".parquet"):
            yield from self.run.iter_rows(f"{self.folder}/{name}", self.schema, columns=columns)
