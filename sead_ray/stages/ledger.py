"""Which clips a stage has done: one small Parquet file a clip, written atomically, so that a restart does the rest.

Ray Data's own checkpoint works by block and loses small pools; this works by clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sead_ray.storage import Store


@dataclass(frozen=True)
class Ledger:
    """A folder of one-row files, one a clip. Picklable: Ray's tasks add to it."""

    run: Store
    folder: str
    schema: pa.Schema

    def add(self, clip_token: str, row: dict[str, Any]) -> None:
        name = hashlib.sha256(clip_token.encode()).hexdigest()[:32]
        self.run.write_table(f"{self.folder}/{name}.parquet", [row], self.schema)

    def done(self) -> set[str]:
        return {row["clip_token"] for row in self._rows(["clip_token"])}

    def rows(self, clip_tokens: Collection[str]) -> list[dict[str, Any]]:
        """The rows of these clips, sorted by token; every one must be there."""
        wanted = set(clip_tokens)
        rows = sorted((row for row in self._rows() if row["clip_token"] in wanted), key=lambda row: row["clip_token"])
        missing = len(wanted) - len(rows)
        if missing:
            raise RuntimeError(f"{self.run.path(self.folder)} lacks {missing} of {len(wanted)} clips")
        return rows

    def _rows(self, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        for name in self.run.list(self.folder, suffix=".parquet"):
            yield from self.run.iter_rows(f"{self.folder}/{name}", self.schema, columns=columns)
