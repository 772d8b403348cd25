"""The tables of a folder, divided by scene: one pass over files of gigabytes, then a scene's rows are one small read.

An index is one Parquet file with a row group a scene; its rows are (table, JSON text of the row). What was recorded
and what was annotated are indexes of their own, so that clips can be made where no annotation exists.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

from sead_ray.errors import InputError
from sead_ray.nuscenes.json_rows import iter_json_rows
from sead_ray.nuscenes.row_types import check_rows
from sead_ray.nuscenes.tables import CHANNELS, LIDAR, partner, table_key
from sead_ray.storage import Store

DRIVE_TABLES = ("scene", "log", "sensor", "calibrated_sensor", "sample", "sample_data", "ego_pose")
LABEL_TABLES = ("sample_annotation", "instance", "category")
SPOOL_CHARACTERS = 64 * 2**20  # of rows held in memory before they go to the scratch file

_SCHEMA = pa.schema([("table", pa.string()), ("row", pa.string())])
_NO_ROWS = pa.table([[""], [""]], schema=_SCHEMA)  # Parquet knows no empty row group

Add = Callable[[int, str, str], None]  # (scene's position, table, JSON text of the row)
ReadBytes = Callable[[int], None]


def write_index(
    source: Store,
    version: str,
    scenes: Sequence[str],
    tables: tuple[str, ...],
    target: Store,
    key: str,
    read: ReadBytes,
) -> list[str]:
    """Writes the rows of `scenes` as the index `key`, row groups in their order; returns a SHA-256 of each one's rows.

    Args:
        tables: DRIVE_TABLES or LABEL_TABLES.
        read: told the bytes read of the tables, for progress.

    Raises:
        InputError: a table that is missing or damaged, a row whose partner is missing; names file and token.
    """
    with _Spool(len(scenes)) as spool:
        collector = _Collector(source, version, {token: position for position, token in enumerate(scenes)}, spool, read)
        collector.drive() if tables == DRIVE_TABLES else collector.labels()
        return spool.write(target, key)


class SceneIndex:
    """Reads an index; the file is opened once."""

    def __init__(self, store: Store, key: str) -> None:
        self._file = store.parquet_file(key)

    def rows(self, position: int) -> dict[str, list[str]]:
        """Table -> JSON texts of the rows of the scene at `position`, in the table's order."""
        tables: dict[str, list[str]] = defaultdict(list)
        group = self._file.read_row_group(position)
        for table, row in zip(group.column("table").to_pylist(), group.column("row").to_pylist(), strict=True):
            tables[table].append(row)
        return tables


class SceneTables:
    """The table files of a single scene, with the names and in the place of the folder's own (`tables.TableSource`)."""

    def __init__(self, folder: Store, version: str, rows: dict[str, list[str]], names: tuple[str, ...]) -> None:
        self._folder, self._version = folder, version
        self._texts = {f"{version}/{name}.json": rows.get(name, []) for name in names}

    def exists(self, key: str) -> bool:
        return key == self._version or key in self._texts or self._folder.exists(key)

    def path(self, key: str = "") -> str:
        return self._folder.path(key)

    def read_bytes(self, key: str) -> bytes:
        if key not in self._texts:
            return self._folder.read_bytes(key)
        return f"[{','.join(self._texts[key])}]".encode()


class _Collector:
    """Hands every row that a chosen scene needs to the spool."""

    def __init__(self, source: Store, version: str, numbers: dict[str, int], spool: _Spool, read: ReadBytes) -> None:
        self._source, self._version, self._numbers, self._read = source, version, numbers, read
        self._spool = spool

    def drive(self) -> None:
        logs = _Owners()
        for row, text in self._rows("scene", "token", "log_token"):
            if (position := self._numbers.get(row[0])) is not None:
                self._spool.add(position, "scene", text)
                logs.add(row[1], position)
        self._give("log", logs)
        sensors = {row[0]: (row[1], text) for row, text in self._rows("sensor", "token", "channel")}
        for _, text in sensors.values():
            for position in self._numbers.values():
                self._spool.add(position, "sensor", text)
        channel_of = {
            row[0]: partner(sensors, "sensor", row[1], f"calibrated_sensor {row[0]}")[0]
            for row, _ in self._rows("calibrated_sensor", "token", "sensor_token")
        }
        calibrations, poses = self._sample_data(self._samples(), channel_of)
        self._give("calibrated_sensor", calibrations)
        self._give("ego_pose", poses)

    def labels(self) -> None:
        scene_of = self._samples(keep=False)
        instances = _Owners()
        for row, text in self._rows("sample_annotation", "token", "sample_token", "instance_token"):
            position = partner(scene_of, "sample", row[1], f"sample_annotation {row[0]}")
            if position is not None:
                self._spool.add(position, "sample_annotation", text)
                instances.add(row[2], position)
        self._give("instance", instances)
        for _, text in self._rows("category", "token"):
            for position in self._numbers.values():
                self._spool.add(position, "category", text)

    def _samples(self, keep: bool = True) -> dict[str, int | None]:
        """Sample token -> position of its scene, None where the scene is not wanted."""
        scene_of: dict[str, int | None] = {}
        for row, text in self._rows("sample", "token", "scene_token"):
            if row[0] in scene_of:
                raise InputError(
                    f"{self._source.path(f'{self._version}/sample.json')} has two rows of the token {row[0]!r}."
                )
            position = scene_of[row[0]] = self._numbers.get(row[1])
            if keep and position is not None:
                self._spool.add(position, "sample", text)
        return scene_of

    def _sample_data(self, scene_of: dict[str, int | None], channel_of: dict[str, str]) -> tuple[_Owners, _Owners]:
        """Key frames of the channels that clips need; returns which scenes need which calibrations and ego poses."""
        calibrations, poses = _Owners(), _Owners()
        columns = ("token", "is_key_frame", "sample_token", "calibrated_sensor_token", "ego_pose_token")
        for (token, is_key_frame, sample, calibration, pose), text in self._rows("sample_data", *columns):
            # A row whose calibration is unknown is kept: its scene refuses it by name.
            if not is_key_frame or channel_of.get(calibration, LIDAR) not in CHANNELS:
                continue
            position = partner(scene_of, "sample", sample, f"sample_data {token}")
            if position is not None:
                self._spool.add(position, "sample_data", text)
                calibrations.add(calibration, position)
                poses.add(pose, position)
        return calibrations, poses

    def _give(self, table: str, owners: _Owners) -> None:
        for row, text in self._rows(table, "token"):
            for position in owners.of(row[0]):
                self._spool.add(position, table, text)

    def _rows(self, name: str, *columns: str) -> Iterator[tuple[list[Any], str]]:
        key = table_key(self._source, self._version, name)
        for row, text in iter_json_rows(self._source, key, read=self._read):
            try:
                values = [row[column] for column in columns]
            except KeyError as error:
                raise InputError(f"The table {self._source.path(key)} has a row without {error}.") from None
            for column, value in zip(columns, values):
                if column != "is_key_frame" and not isinstance(value, str):
                    check_rows([{"token": row.get("token"), column: value}], self._source.path(key))
            yield values, text


class _Owners:
    """Token -> positions of the scenes that refer to it: nearly always one, whose tuple is shared."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[int, ...]] = {}
        self._single: dict[int, tuple[int, ...]] = {}

    def add(self, token: str, position: int) -> None:
        known = self._owners.get(token)
        if known is None:
            self._owners[token] = self._single.setdefault(position, (position,))
        elif position not in known:
            self._owners[token] = (*known, position)

    def of(self, token: str) -> tuple[int, ...]:
        return self._owners.get(token, ())


class _Spool:
    """Rows by scene: in memory up to a limit, beyond it in a scratch file of Arrow batches, one a scene and flush."""

    def __init__(self, n_scenes: int) -> None:
        self._rows: list[list[tuple[str, str]]] = [[] for _ in range(n_scenes)]
        self._batches: list[list[int]] = [[] for _ in range(n_scenes)]
        self._held = self._written = 0
        self._resources = ExitStack()

    def __enter__(self) -> _Spool:
        folder = self._resources.enter_context(tempfile.TemporaryDirectory(prefix="scene_index"))
        self._path = os.path.join(folder, "rows.arrow")
        self._writer = pa.ipc.new_file(self._path, _SCHEMA)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def add(self, position: int, table: str, text: str) -> None:
        self._rows[position].append((table, text))
        self._held += len(text)
        if self._held > SPOOL_CHARACTERS:
            self._flush()

    def write(self, target: Store, key: str) -> list[str]:
        self._flush()
        self._writer.close()
        digests: list[str] = []

        def groups() -> Iterator[pa.Table]:
            with pa.memory_map(self._path) as mapped:
                reader = pa.ipc.open_file(mapped)
                for batches in self._batches:
                    table = pa.Table.from_batches([reader.get_batch(index) for index in batches], _SCHEMA)
                    table = table if len(table) else _NO_ROWS
                    digests.append(_digest(table))
                    yield table

        target.write_groups(key, groups(), _SCHEMA)
        return digests

    def _flush(self) -> None:
        for rows, batches in zip(self._rows, self._batches, strict=True):
            if rows:
                self._writer.write_batch(pa.record_batch([list(column) for column in zip(*rows)], schema=_SCHEMA))
                batches.append(self._written)
                self._written += 1
                rows.clear()
        self._held = 0


def _digest(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in _SCHEMA.names:
        for text in table.column(name).to_pylist():
            digest.update(text.encode())
            digest.update(b"\n")
    return digest.hexdigest()
