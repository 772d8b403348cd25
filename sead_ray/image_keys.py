"""Images by their keys: a file below the data root, or FILE.arrow#ROW, the image in a row of an Arrow file.

The second is how py123d keeps images inside its logs (column `data` of `camera.<id>.arrow`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.storage import Store

_MARK = ".arrow#"


def row_key(file: str, row: int) -> str:
    """Key of the image in `row` of the Arrow file `file`."""
    return f"{file}#{row}"


def file_of(key: str) -> str:
    """The file that holds the image."""
    return key.rpartition("#")[0] if _MARK in key else key


def read_image(store: Store, key: str) -> bytes:
    """The encoded image.

    Raises:
        InputError: there is no such file, or row.
    """
    if _MARK not in key:
        return store.read_bytes(key)
    return _cell(store, key).as_py() or b""


def is_empty(store: Store, key: str) -> bool:
    """Whether nothing is in the row of an Arrow file that `key` names; on a local disk the image is not read."""
    cell = _cell(store, key)
    return not cell.is_valid or cell.as_buffer().size == 0


def _cell(store: Store, key: str) -> Any:
    file, _, row = key.rpartition("#")
    return _image_column(store, file).cell(int(row), key)


@dataclass(frozen=True)
class _ImageColumn:
    """The column of images of one Arrow file, of which only the batch asked for is read."""

    reader: Any  # pa.RecordBatchFileReader
    starts: NDArray[np.int64]  # first row of each batch, and the end
    lock: threading.Lock = field(default_factory=threading.Lock)

    def cell(self, row: int, key: str) -> Any:
        """An Arrow scalar, not yet copied."""
        if not 0 <= row < self.starts[-1]:
            raise InputError(f"Image {key} does not exist: the file has {self.starts[-1]} rows.")
        batch = int(np.searchsorted(self.starts, row, side="right")) - 1
        with self.lock:
            images = self.reader.get_batch(batch).column(0)
        return images[row - int(self.starts[batch])]


@lru_cache(maxsize=96)
def _image_column(store: Store, file: str) -> _ImageColumn:
    """Kept open: a clip takes forty rows of each of six files."""
    name = file.rpartition("/")[2].removesuffix(".arrow")
    times = store.arrow_file(file, [f"{name}.timestamp_us"])
    lengths = [times.get_batch(index).num_rows for index in range(times.num_record_batches)]
    return _ImageColumn(store.arrow_file(file, [f"{name}.data"]), np.cumsum([0, *lengths]))
