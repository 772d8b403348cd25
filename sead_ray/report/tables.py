"""Parquet files read in part: a pool has a million boxes and camera poses, of which the page shows a few."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sead_ray.arrow import compute as pc
from sead_ray.errors import InputError
from sead_ray.schemas import CLIP_SCHEMA, check_schema
from sead_ray.storage import Store

CLIPS = "clips/clips.parquet"
FACTS = (
    *("clip_token", "name", "location", "split", "description", "is_night", "is_rainy", "behaviour"),
    *("acc_std_mps2", "yaw_sum_rad", "dynamics_source"),
)


def rows_where(run: Store, key: str, schema: pa.Schema, column: str, values: set[str]) -> list[dict[str, Any]]:
    """Rows whose `column` is one of `values`; the others never become Python objects."""
    file = open_table(run, key, schema)
    table = pq.read_table(file, filters=[(column, "in", sorted(values))])
    return table.to_pylist()


def clip_facts(run: Store, split: str | None = None) -> pa.Table:
    """`FACTS` and n_frames of every clip, or of those of one split; images and poses are not read.

    Raises:
        InputError: the run has no prepared clips.
    """
    file = pq.ParquetFile(open_table(run, CLIPS, CLIP_SCHEMA))
    table = file.read(columns=[*FACTS, "frames.list.element.token"])
    lengths = pc.list_value_length(table.column("frames"))
    table = table.select(list(FACTS)).append_column("n_frames", lengths)
    return table if split is None else table.filter(pc.equal(table.column("split"), split))


def columns_of(run: Store, key: str, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    """The named columns of a file; those that an older file lacks are left out."""
    file = pq.ParquetFile(open_table(run, key, schema))
    return file.read(columns=[name for name in columns if name in file.schema_arrow.names])


def smallest_of_lists(lists: pa.ChunkedArray) -> np.ndarray:
    """(n,) smallest number of each list; infinite for an empty one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    found = np.full(len(lengths), np.inf)
    ends = np.cumsum(lengths)
    values = pc.list_flatten(lists).to_numpy()
    some = lengths > 0
    if some.any():
        found[some] = np.minimum.reduceat(values, (ends - lengths)[some])
    return found


def open_table(run: Store, key: str, schema: pa.Schema) -> io.BytesIO:
    """The file's bytes, after a check of its schema and version."""
    path = run.path(key)
    out = io.BytesIO(run.read_bytes(key))
    try:
        file = pq.ParquetFile(out)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}.") from None
    versions: set[int] = set()
    if "schema_version" in file.schema_arrow.names:
        versions = set(file.read(columns=["schema_version"]).column(0).unique().to_pylist())
    check_schema(file.schema_arrow, schema, versions, path)
    out.seek(0)
    return out
