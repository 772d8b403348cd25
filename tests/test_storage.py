"""The run folder: files appear whole or not at all, and nothing reaches outside the folder."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sead_ray.errors import InputError
from sead_ray.schemas import SELECTION_SCHEMA
from sead_ray.storage import MANIFEST, Store
from tests.hand_made import make_selection

ROWS = [make_selection(f"clip-{number:03d}", 0, number % 4).to_row() for number in range(50)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_what_is_written_is_read(store: Store) -> None:
    store.write_bytes("a/b/c.bin", b"\x00\xff")
    store.write_json("a/d.json", {"b": 1, "a": [2.5, None]})
    assert store.read_bytes("a/b/c.bin") == b"\x00\xff"
    assert store.read_json("a/d.json") == {"a": [2.5, None], "b": 1}
    assert store.exists("a/b")
    assert store.below("a").list() == ["d.json"]
    assert pickle.loads(pickle.dumps(store)) == store


def test_file_uri_is_the_local_folder(tmp_path: Path) -> None:
    assert Store(f"file://{tmp_path}/x/") == Store(f"{tmp_path}/x")
    assert Store("s3://bucket/runs/").path("a") == "s3://bucket/runs/a"


@pytest.mark.parametrize("stage", ["write", "replace"])
def test_a_writer_that_fails_midway_leaves_the_old_content(
    store: Store, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    store.write_bytes("a.bin", b"old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync" if stage == "write" else "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.write_bytes("a.bin", b"new and longer")
    assert store.read_bytes("a.bin") == b"old"
    assert os.listdir(store.root) == ["a.bin"]


def test_a_killed_writer_is_invisible(store: Store) -> None:
    """SIGKILL between the temporary file and its rename leaves the former behind."""
    pid = os.fork()
    if pid == 0:
        os.replace = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment]
        store.write_bytes("stage/a.bin", b"half")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert [name.endswith(".tmp") for name in os.listdir(store.path("stage"))] == [True]
    assert store.list("stage") == []
    assert not store.exists("stage/a.bin")
    store.publish("stage", {})
    assert store.manifest("stage")["files"] == {}


def test_rows_that_fail_midway_leave_the_old_table(store: Store) -> None:
    store.write_table("t.parquet", ROWS[:3], SELECTION_SCHEMA)

    def broken() -> Iterator[dict[str, Any]]:
        yield from ROWS[:20]
        raise InputError("bad row.")

    with pytest.raises(InputError, match="bad row"):
        store.write_table("t.parquet", broken(), SELECTION_SCHEMA, group=5)
    assert list(store.iter_rows("t.parquet", SELECTION_SCHEMA)) == ROWS[:3]
    assert os.listdir(store.root) == ["t.parquet"]


@pytest.mark.parametrize("key", ["..", "../x", "a/../../x", "/etc/passwd", "a/.."])
@pytest.mark.parametrize("method", ["path", "below", "read_bytes", "exists", "list", "remove"])
def test_keys_that_leave_the_folder_are_refused(store: Store, key: str, method: str) -> None:
    with pytest.raises(InputError) as caught:
        getattr(store, method)(key)
    assert repr(key) in one_sentence(caught)


def test_two_dots_inside_a_name_are_fine(store: Store) -> None:
    store.write_bytes("a..b", b"x")
    assert store.list() == ["a..b"]


def test_list_is_sorted_filtered_and_flat(store: Store) -> None:
    for name in ("b.parquet", "a.parquet", "c.json", "d.parquet.tmp", "sub/e.parquet"):
        store.write_bytes(name, b"")
    assert store.list() == ["a.parquet", "b.parquet", "c.json"]
    assert store.list(suffix=".parquet") == ["a.parquet", "b.parquet"]
    assert store.list("nowhere") == []


def test_remove(store: Store) -> None:
    for name in ("stage/a", "stage/deep/b", "other"):
        store.write_bytes(name, b"x")
    store.remove("stage/a")
    assert not store.exists("stage/a")
    store.remove("stage")
    store.remove("stage")
    assert not store.exists("stage")
    assert store.list() == ["other"]


def test_a_folder_counts_once_published_and_its_manifest_has_the_hashes(store: Store) -> None:
    store.write_bytes("stage/a.bin", b"content")
    store.write_bytes("stage/deep/b.bin", b"not listed")
    assert not store.is_published("stage")
    store.publish("stage", {"n_clips": 3})
    assert store.is_published("stage")
    digest = hashlib.sha256(b"content").hexdigest()
    assert store.manifest("stage") == {"n_clips": 3, "files": {"a.bin": digest}}
    first = store.read_bytes(f"stage/{MANIFEST}")
    store.publish("stage", {"n_clips": 3})
    assert store.read_bytes(f"stage/{MANIFEST}") == first


def test_the_same_rows_give_the_same_bytes(store: Store) -> None:
    store.write_table("a.parquet", ROWS, SELECTION_SCHEMA)
    store.write_table("b.parquet", iter(ROWS), SELECTION_SCHEMA)
    store.write_table("c.parquet", reversed(ROWS), SELECTION_SCHEMA)
    assert store.read_bytes("a.parquet") == store.read_bytes("b.parquet")
    assert store.read_bytes("a.parquet") != store.read_bytes("c.parquet")


@pytest.mark.parametrize(("group", "batch_size"), [(1, 1), (7, 3), (1024, 256)])
def test_rows_come_back_in_order_whatever_the_grouping(store: Store, group: int, batch_size: int) -> None:
    store.write_table("t.parquet", ROWS, SELECTION_SCHEMA, group=group)
    assert list(store.iter_rows("t.parquet", SELECTION_SCHEMA, batch_size=batch_size)) == ROWS


def test_columns_and_filter(store: Store) -> None:
    store.write_table("t.parquet", ROWS, SELECTION_SCHEMA, group=4)
    where = pc.field("n_frames_bought") == 2
    rows = list(store.iter_rows("t.parquet", SELECTION_SCHEMA, columns=["clip_token"], where=where))
    assert rows == [{"clip_token": row["clip_token"]} for row in ROWS if row["n_frames_bought"] == 2]
    assert len(rows) == 12


def test_an_empty_table_is_read(store: Store) -> None:
    store.write_table("t.parquet", [], SELECTION_SCHEMA)
    assert list(store.iter_rows("t.parquet", SELECTION_SCHEMA)) == []


def test_rows_that_do_not_fit_the_schema_are_no_input_error(store: Store) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        store.write_table("t.parquet", [{**ROWS[0], "rank": "first"}], SELECTION_SCHEMA)
    assert not store.exists("t.parquet")


def test_missing_files_are_named(store: Store) -> None:
    for read in (
        lambda: store.read_bytes("no.bin"),
        lambda: store.read_json("no.json"),
        lambda: store.manifest("no"),
        lambda: list(store.iter_rows("no.parquet", SELECTION_SCHEMA)),
    ):
        with pytest.raises(InputError) as caught:
            read()
        assert f"{store.root}/no" in one_sentence(caught)


def test_a_folder_is_no_file(store: Store) -> None:
    store.write_bytes("folder/a", b"")
    for read in (lambda: store.read_bytes("folder"), lambda: list(store.iter_rows("folder", SELECTION_SCHEMA))):
        with pytest.raises(InputError) as caught:
            read()
        assert f"{store.root}/folder" in one_sentence(caught)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "scribbled"])
def test_a_damaged_parquet_file_is_named(store: Store, damage: str) -> None:
    store.write_table("t.parquet", ROWS * 20, SELECTION_SCHEMA)
    data = store.read_bytes("t.parquet")
    scribbled = data[:4] + bytes(255 - byte for byte in data[4 : len(data) // 4]) + data[len(data) // 4 :]
    damaged = {"empty": b"", "text": b"clip_token,rank\n", "cut": data[:-20], "scribbled": scribbled}[damage]
    store.write_bytes("t.parquet", damaged)
    with pytest.raises(InputError) as caught:
        list(store.iter_rows("t.parquet", SELECTION_SCHEMA))
    assert one_sentence(caught).startswith(f"{store.root}/t.parquet is not a readable Parquet file")


def test_invalid_json_is_named(store: Store) -> None:
    store.write_bytes("a.json", b"{")
    with pytest.raises(InputError) as caught:
        store.read_json("a.json")
    assert f"{store.root}/a.json is not valid JSON" in one_sentence(caught)
    store.write_bytes("a.json", b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="is not valid JSON"):
        store.read_json("a.json")
