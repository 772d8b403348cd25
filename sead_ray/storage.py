"""The run folder: tables in it, and how a stage's output is published.

A stage's output is a folder that counts only once its manifest exists; the manifest is written last, so a killed stage
leaves no trace that a later one could take for a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from sead_ray.errors import FencedError, InputError
from sead_ray.files import CHUNK_BYTES, Files, Names, json_bytes, reason_of
from sead_ray.schemas import LATER_COLUMNS, check_schema

__all__ = ["CHUNK_BYTES", "MANIFEST", "Store"]

MANIFEST = "manifest.json"


class Store(Files):
    """A folder of files, Parquet and Arrow tables, and published stages."""

    def write_table(self, key: str, rows: Iterable[dict[str, Any]], schema: pa.Schema, group: int = 1024) -> None:
        """Rows (dicts) to one Parquet file, atomically, in row groups of `group`; bytes depend on the rows alone."""
        self.write_groups(key, (pa.Table.from_pylist(part, schema=schema) for part in _batched(rows, group)), schema)

    def write_groups(self, key: str, groups: Iterable[pa.Table], schema: pa.Schema) -> None:
        """Tables to one Parquet file, atomically, each a row group; holds one of them at a time."""
        with self.replacing(key) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for table in groups:
                writer.write_table(table.combine_chunks(), row_group_size=max(1, len(table)))

    def iter_rows(
        self,
        key: str,
        schema: pa.Schema,
        columns: Names | None = None,
        where: pc.Expression | None = None,
        batch_size: int = 256,
    ) -> Iterator[dict[str, Any]]:
        """Rows of a Parquet file as dicts, read in batches; checks schema and version first.

        `where` is pushed down: row groups that cannot match are not read.
        """
        fs, path = self.filesystem(key)
        file = self._checked(key, schema)
        if columns is not None:  # an older file lacks later columns, and the record's defaults stand
            columns = [name for name in columns if name not in LATER_COLUMNS or name in file.schema_arrow.names]
        rows = pads.dataset(path, filesystem=fs, format="parquet").scanner(
            columns=columns, filter=where, batch_size=batch_size, batch_readahead=1, fragment_readahead=0
        )
        batches = rows.to_batches()
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowInvalid, OSError) as error:  # damaged behind its intact footer
                raise self._unreadable(key, error) from None
            if batch is None:
                return
            yield from batch.to_pylist()

    def iter_batches(self, key: str, schema: pa.Schema, columns: Names) -> Iterator[pa.RecordBatch]:
        """Record batches of a Parquet file; `columns` may name parts of nested ones ("frames.list.element.token")."""
        file = self._checked(key, schema)
        try:
            yield from file.iter_batches(columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(key, error) from None

    def dataset(self, keys: Names, schema: pa.Schema) -> pads.Dataset:
        """Parquet files as one Arrow dataset, each checked first."""
        for key in keys:
            self._checked(key, schema)
        return pads.dataset(
            [self.filesystem(key)[1] for key in keys], filesystem=self.filesystem("")[0], format="parquet"
        )

    def parquet_file(self, key: str) -> pq.ParquetFile:
        """Opened for reading row groups; `InputError` where there is no such file."""
        fs, path = self.filesystem(key)
        if not self.exists(key):
            raise InputError(f"{self.path(key)} does not exist.")
        try:
            return pq.ParquetFile(path, filesystem=fs)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(key, error) from None

    def arrow_file(self, key: str, columns: Names | None = None) -> pa.RecordBatchFileReader:
        """An Arrow IPC file, opened; of other columns than `columns` nothing is read.

        Raises:
            InputError: there is no such file, or it is none of Arrow's, or it lacks one of the columns.
        """
        fs, path = self.filesystem(key)
        try:
            source = pa.memory_map(path) if self.is_local else fs.open_input_file(path)
            reader = pa.ipc.open_file(source)
            if columns is None:
                return reader
            if missing := [name for name in columns if name not in reader.schema.names]:
                raise InputError(f"{self.path(key)} has no column {missing[0]}.")
            fields = [reader.schema.get_field_index(name) for name in columns]
            return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
        except FileNotFoundError:
            raise InputError(f"{self.path(key)} does not exist.") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{self.path(key)} is not a readable Arrow file: {reason_of(error)}.") from None

    def _checked(self, key: str, schema: pa.Schema) -> pq.ParquetFile:
        """The file, once it is known to be there, readable, of this schema and not newer than this program."""
        file = self.parquet_file(key)
        try:
            versions: set[int] = set()
            if "schema_version" in file.schema_arrow.names:
                for batch in file.iter_batches(columns=["schema_version"]):
                    versions.update(value for value in batch.column(0).unique().to_pylist() if isinstance(value, int))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(key, error) from None
        check_schema(file.schema_arrow, schema, versions, self.path(key))
        return file

    def _unreadable(self, key: str, error: Exception) -> InputError:
        return InputError(f"{self.path(key)} is not a readable Parquet file: {reason_of(error)}.")

    def publish(self, key: str, facts: dict[str, Any], anew: bool = False) -> None:
        """Publishes the folder `key`: writes its manifest, with the SHA-256 of each file directly in it, once.

        Args:
            anew: replaces an earlier publication of more than it had; for the holder of the run folder alone.

        Raises:
            FencedError: the folder was published with other content, or the run folder is another driver's by now.
        """
        files = {name: self._sha256(f"{key}/{name}") for name in self.list(key) if name != MANIFEST}
        data = json_bytes({**facts, "files": files})
        manifest = f"{key}/{MANIFEST}"
        if anew:
            self.write_bytes(manifest, data)
            return
        if not self.create_bytes(manifest, data) and self.read_bytes(manifest) != data:
            raise FencedError(f"{self.path(key)} was published by another driver meanwhile.")

    def is_published(self, key: str) -> bool:
        return self.exists(f"{key}/{MANIFEST}")

    def manifest(self, key: str) -> dict[str, Any]:
        return self.read_json(f"{key}/{MANIFEST}")

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        for chunk in self.read_chunks(key):
            digest.update(chunk)
        return digest.hexdigest()


def _batched(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
