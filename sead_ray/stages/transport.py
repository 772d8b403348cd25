"""Objects between the pipeline's own tasks as rows of Arrow tables. A large array travels beside its object.

It is written once into Ray's object store, and is read there: unpacking gives an array that lies in the store's memory.
A table of several rows keeps each row in a chunk of its own, so that putting tables together copies nothing either.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
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
        for row in range(batch.num_rows):
            large = arrays[row].as_buffer()
            payload = pickle.loads(payloads[row].as_buffer(), buffers=[large] if large is not None else [])
            rows.append((tokens[row].as_py(), payload))
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
