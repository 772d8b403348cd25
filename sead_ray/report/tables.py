"""Parquet files read in part: a pool has a million boxes and camera poses, of which the page shows a few."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sead_ray.errors import InputError
from sead_ray.schemas import CLIP_SCHEMA, check_schema
from sead_ray.storage import Store

CLIPS = "clips/clips.parquet"


def rows_where(run: Store, key: str, schema: pa.Schema, column: str, values: set[str]) -> list[dict[str, Any]]:
    """Rows whose `column` is one of `values`; the others never become Python objects."""
    file = _open(run, key, schema)
    table = pq.read_table(file, filters=[(column, "in", sorted(values))])
    return table.to_pylist()


def clip_summaries(run: Store) -> list[dict[str, Any]]:
    """split, location, is_night, is_rainy and n_frames of every clip; images and poses are not read."""
    columns = ["split", "location", "is_night", "is_rainy"]
    table = pq.ParquetFile(_open(run, CLIPS, CLIP_SCHEMA)).read(columns=[*columns, "frames.list.element.token"])
    rows = table.select(columns).to_pylist()
    lengths = table.column("frames").combine_chunks().value_lengths().to_pylist()
    return [{**row, "n_frames": length} for row, length in zip(rows, lengths)]


def _open(run: Store, key: str, schema: pa.Schema) -> io.BytesIO:
    """The file's bytes, after a check of its schema and version."""
    path = run.path(key)
    out = io.BytesIO(run.read_bytes(key))
    try:
        file = pq.ParquetFile(out)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}.") from None
    versions: set[int] = set()
    if "schema_version" in file.schema_arrow.names:
        versions = set(file.read(columns=["schema_version"]).column(0).to_pylist())
    check_schema(file.schema_arrow, schema, versions, path)
    out.seek(0)
    return out
