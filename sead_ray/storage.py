"""The run folder: where each stage's output lies, and how it is published.

A path is local or s3://, gs:// through pyarrow.fs. A file becomes visible whole or not at all. A stage's output is a
folder that counts only once its manifest exists; the manifest is written last, so a killed stage leaves no trace
that a later one could take for a result.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from sead_ray.errors import InputError
from sead_ray.schemas import LATER_COLUMNS, check_schema

MANIFEST = "manifest.json"

Names = list[str]  # inside Store, `list` is its method


@dataclass(frozen=True)
class Store:
    """A folder, local or in a bucket. Picklable: the file system is opened where it is used."""

    root: str

    def __post_init__(self) -> None:
        root = self.root.removeprefix("file://")
        object.__setattr__(self, "root", root.rstrip("/") if "://" in root else os.path.abspath(root))

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    def path(self, key: str = "") -> str:
        """The full path or URI of `key`; refuses one that leaves the folder."""
        if key.startswith("/") or ".." in key.split("/"):
            raise InputError(f"{key!r} is not a path below {self.root}.")
        return f"{self.root}/{key}" if key else self.root

    def below(self, key: str) -> Store:
        return Store(self.path(key))

    def read_bytes(self, key: str) -> bytes:
        fs, path = self._open(key)
        try:
            with fs.open_input_stream(path) as stream:
                return stream.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise InputError(f"{self.path(key)} does not exist.") from None
        except OSError as error:
            raise InputError(f"{self.path(key)} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from None

    def write_bytes(self, key: str, data: bytes) -> None:
        """Atomic: readers see the old content or the whole new one."""
        fs, path = self._open(key)
        if not self.is_local:  # a single PUT is atomic
            with fs.open_output_stream(path) as stream:
                stream.write(data)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def read_json(self, key: str) -> Any:
        try:
            return json.loads(self.read_bytes(key))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{self.path(key)} is not valid JSON: {error}.") from None

    def write_json(self, key: str, value: Any) -> None:
        self.write_bytes(key, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())

    def exists(self, key: str) -> bool:
        fs, path = self._open(key)
        return fs.get_file_info(path).type != pafs.FileType.NotFound

    def list(self, key: str = "", suffix: str = "") -> Names:
        """Names of the files directly below `key`, sorted; unfinished ones (.tmp) are left out."""
        fs, path = self._open(key)
        infos = fs.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return sorted(
            info.base_name
            for info in infos
            if info.type == pafs.FileType.File
            and info.base_name.endswith(suffix)
            and not info.base_name.endswith(".tmp")
        )

    def remove(self, key: str) -> None:
        """Removes a file or a folder with all it holds; nothing happens where there is none."""
        fs, path = self._open(key)
        kind = fs.get_file_info(path).type
        if kind == pafs.FileType.Directory:
            fs.delete_dir(path)
        elif kind == pafs.FileType.File:
            fs.delete_file(path)

    def write_table(self, key: str, rows: Iterable[dict[str, Any]], schema: pa.Schema, group: int = 1024) -> None:
        """Rows (dicts) to one Parquet file, atomically, in row groups of `group`; bytes depend on the rows alone."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            batch: list[dict[str, Any]] = []
            for row in rows:
                batch.append(row)
                if len(batch) == group:
                    writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                    batch = []
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        self.write_bytes(key, sink.getvalue().to_pybytes())

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
        fs, path = self._open(key)
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
        return pads.dataset([self._open(key)[1] for key in keys], filesystem=self._open("")[0], format="parquet")

    def _checked(self, key: str, schema: pa.Schema) -> pq.ParquetFile:
        """The file, once it is known to be there, readable, of this schema and not newer than this program."""
        fs, path = self._open(key)
        if not self.exists(key):
            raise InputError(f"{self.path(key)} does not exist.")
        try:
            file = pq.ParquetFile(path, filesystem=fs)
            versions: set[int] = set()
            if "schema_version" in file.schema_arrow.names:
                for batch in file.iter_batches(columns=["schema_version"]):
                    versions.update(value for value in batch.column(0).unique().to_pylist() if isinstance(value, int))
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(key, error) from None
        check_schema(file.schema_arrow, schema, versions, self.path(key))
        return file

    def _unreadable(self, key: str, error: Exception) -> InputError:
        reason = " ".join(str(error).split()).rstrip(".")
        return InputError(f"{self.path(key)} is not a readable Parquet file: {reason}.")

    def publish(self, key: str, facts: dict[str, Any]) -> None:
        """Publishes the folder `key`: writes its manifest, with the SHA-256 of each file directly in it."""
        files = {
            name: hashlib.sha256(self.read_bytes(f"{key}/{name}")).hexdigest()
            for name in self.list(key)
            if name != MANIFEST
        }
        self.write_json(f"{key}/{MANIFEST}", {**facts, "files": files})

    def is_published(self, key: str) -> bool:
        return self.exists(f"{key}/{MANIFEST}")

    def manifest(self, key: str) -> dict[str, Any]:
        return self.read_json(f"{key}/{MANIFEST}")

    def _open(self, key: str) -> tuple[pafs.FileSystem, str]:
        full = self.path(key)
        if self.is_local:
            return pafs.LocalFileSystem(), full
        fs, path = pafs.FileSystem.from_uri(full)
        return fs, path
