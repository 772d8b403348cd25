"""Rows of a JSON table one by one, in the memory of a few: nuScenes' sample_data.json alone is over 1 GB."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from sead_ray.errors import InputError
from sead_ray.storage import CHUNK_BYTES, Store

Row = dict[str, Any]

_ROW_LIMIT = 4 * 2**20  # characters; a row is some hundred
_BEGIN, _SEPARATOR, _END = re.compile(r"\s*\[\s*"), re.compile(r"\s*,\s*"), re.compile(r"\s*\]\s*")


def iter_json_rows(
    store: Store, key: str, chunk_bytes: int = CHUNK_BYTES, read: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[Row, str]]:
    """Yields (row, its JSON text) of a file that holds a list of objects.

    Args:
        chunk_bytes: read at once.
        read: told the number of bytes after each chunk, for progress.

    Raises:
        InputError: names the file that is missing or is no such list.
    """
    text = _Text(store, key, chunk_bytes, read)
    text.expect(_BEGIN)
    if text.skip(_END):
        return
    decode = json.JSONDecoder().raw_decode
    while True:
        try:
            row, end = decode(text.buffer, text.position)
        except json.JSONDecodeError as error:
            if len(text.buffer) - text.position > _ROW_LIMIT + chunk_bytes or not text.grow():
                raise InputError(f"The table {store.path(key)} is not valid JSON ({error.msg}).") from None
            continue
        if not isinstance(row, dict):
            raise InputError(f"The table {store.path(key)} is not a list of rows.")
        yield row, text.buffer[text.position : end]
        text.position = end
        if text.skip(_SEPARATOR):
            continue
        text.expect(_END)
        if text.position < len(text.buffer) or text.grow():
            raise InputError(f"The table {store.path(key)} goes on behind the end of its list.")
        return


class _Text:
    """A window on the file's text: `buffer` from `position` on is what is not parsed yet."""

    def __init__(self, store: Store, key: str, chunk_bytes: int, read: Callable[[int], None]) -> None:
        self.buffer, self.position = "", 0
        self._path = store.path(key)
        self._chunks = store.read_chunks(key, chunk_bytes)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._read = read

    def grow(self) -> bool:
        """Reads on; False at the end of the file."""
        chunk = next(self._chunks, b"")
        try:
            more = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise InputError(f"The table {self._path} is not valid JSON ({error}).") from None
        self.buffer, self.position = self.buffer[self.position :] + more, 0
        self._read(len(chunk))
        return bool(chunk)

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Moves behind `pattern` where the text goes on with it; a match may go on in the next chunk."""
        found = pattern.match(self.buffer, self.position)
        while (found is None and not self.buffer[self.position :].strip()) or (
            found is not None and found.end() == len(self.buffer)
        ):
            if not self.grow():
                break
            found = pattern.match(self.buffer, self.position)
        if found is None:
            return False
        self.position = found.end()
        return True

    def expect(self, pattern: re.Pattern[str]) -> None:
        if not self.skip(pattern):
            raise InputError(f"The table {self._path} is not a list of rows, or breaks off.")
