"""Objects between the pipeline's own tasks as rows of Arrow tables. A large array travels beside its object.

It is written once into Ray's object store, and is read there: unpacking gives an array that lies in the store's memory.
A table of several rows keeps each row in a chunk of its own, so that putting tables together copies nothing either.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

LARGE_BYTES = 1 << 20  # what is smaller is pickled with its object

_SCHEMA = pa.schema([("clip_token", pa.string()), ("payload", pa.large_binary()), ("array", pa.large_binary())])


def pack(rows: Sequence[tuple[str, Any]]) -> pa.Table:
    """(clip token, any picklable object) a row; never read from outside."""
    tables = [_pack_row(token, item) for token, item in rows]
    return pa.concat_tables(tables) if tables else _SCHEMA.empty_table()


def unpack(table: pa.Table) -> list[tuple[str, Any]]:
    """Inverse of `pack`. Large arrays are read-only views of the table."""
    rows = []
    for batch in table.to_batches():
        tokens, payloads, arrays = (batch.column(name) for name in _SCHEMA.names)
        for token, payload, large in zip(tokens.to_pylist(), _values(payloads), _values(arrays)):
            assert payload is not None
            rows.append((token, pickle.loads(payload, buffers=[large] if large is not None else [])))
    return rows


def _pack_row(token: str, item: Any) -> pa.Table:
    large: list[pickle.PickleBuffer] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        if large or buffer.raw().nbytes < LARGE_BYTES:
            return True
        large.append(buffer)
        return False

    payload = pickle.dumps(item, protocol=5, buffer_callback=stays_inside)
    array = pa.py_buffer(large[0].raw()) if large else None
    return pa.table([pa.array([token]), _one_binary(pa.py_buffer(payload)), _one_binary(array)], schema=_SCHEMA)


def _one_binary(data: pa.Buffer | None) -> pa.Array:
    """A column of one value that is `data` itself, not a copy."""
    if data is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def _values(column: pa.Array) -> list[pa.Buffer | None]:
    """The values as parts of the column's memory; a pyarrow scalar would be a copy."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1].tolist()
    valid = column.is_valid().to_pylist()
    return [data.slice(start, stop - start) if there else None for there, (start, stop) in zip(valid, pairwise(ends))]
