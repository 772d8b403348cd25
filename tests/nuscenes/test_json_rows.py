"""Streaming a JSON table gives what parsing it whole gives, wherever the chunks end."""

from __future__ import annotations

import json

import pytest

from sead_ray.errors import InputError
from sead_ray.nuscenes.json_rows import iter_json_rows
from sead_ray.storage import Store

ROWS = [
    {"token": f"t{number}", "numbers": [number / 7, 1e-5, -3], "text": 'a"]},{é漢\\ ', "none": None}
    for number in range(12)
]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 100, 10**6])
def test_rows_and_their_texts(tmp_path, indent: int | None, chunk_bytes: int) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("a.json", (json.dumps(ROWS, indent=indent, ensure_ascii=False) + "\n").encode())
    read: list[int] = []
    found = list(iter_json_rows(store, "a.json", chunk_bytes, read.append))
    assert [row for row, _ in found] == ROWS
    assert [json.loads(text) for _, text in found] == ROWS
    assert sum(read) == store.sizes()["a.json"]


def test_an_empty_list(tmp_path) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("a.json", b" [ ] \n")
    assert list(iter_json_rows(store, "a.json", 1)) == []


@pytest.mark.parametrize("chunk_bytes", [1, 10**6])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"[,]",
        b'[{"a":1},]',
        b'[{"a":1} {"b":2}]',
        b'[{"a":1}]]',
        b'[{"a":\xff}]',
        b'[{"a":1}',
        json.dumps(ROWS).encode()[:300],
    ],
)
def test_damaged_tables_are_named(tmp_path, text: bytes, chunk_bytes: int) -> None:
    store = Store(str(tmp_path))
    store.write_bytes("b.json", text)
    with pytest.raises(InputError, match=r"b\.json"):
        list(iter_json_rows(store, "b.json", chunk_bytes))
