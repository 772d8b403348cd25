"""The same store in a bucket, against a server that speaks S3's API; what a user gets wrong there is one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sead_ray.errors import InputError
from sead_ray.schemas import SELECTION_SCHEMA
from sead_ray.storage import Store
from tests.hand_made import make_selection

ROWS = [make_selection(f"clip-{number:03d}", 0, number % 4).to_row() for number in range(50)]


@pytest.fixture
def store(s3_bucket: str, request: pytest.FixtureRequest) -> Store:
    return Store(f"{s3_bucket}/{request.node.name.replace('[', '-').rstrip(']')}")


def test_a_bucket_is_a_folder(store: Store) -> None:
    large = bytes(range(256)) * 60_000  # several parts
    for key, data in (("a/b.bin", large), ("a/c.txt", b"c"), ("d", b"")):
        store.write_bytes(key, data)
    assert store.read_bytes("a/b.bin") == large
    assert b"".join(store.read_chunks("a/b.bin", 2**20)) == large
    assert store.sizes("a") == {"b.bin": len(large), "c.txt": 1}
    assert (store.list("a", ".txt"), store.list("nowhere"), store.exists("a"), store.exists("e")) == (
        ["c.txt"],
        [],
        True,
        False,
    )
    before = store.stamps(["a/c.txt", "d"])
    store.write_bytes("a/c.txt", b"cc")
    assert {key for key, stamp in store.stamps(before).items() if stamp != before[key]} == {"a/c.txt"}
    with store.local_copy("a/c.txt") as folder:
        assert (folder / "a/c.txt").read_bytes() == b"cc"
    store.remove("a")
    assert not store.exists("a/b.bin")
    assert store.read_bytes("d") == b""


def test_tables_and_manifests_have_the_same_bytes_as_on_a_disk(store: Store, tmp_path) -> None:
    local = Store(str(tmp_path))
    for place in (local, store):
        place.write_table("stage/t.parquet", ROWS, SELECTION_SCHEMA, group=7)
        place.publish("stage", {"n": 50})
    assert store.read_bytes("stage/t.parquet") == local.read_bytes("stage/t.parquet")
    assert store.manifest("stage") == local.manifest("stage")
    assert list(store.iter_rows("stage/t.parquet", SELECTION_SCHEMA)) == ROWS


def test_rows_that_fail_midway_publish_nothing(store: Store) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from ROWS[:20]
        raise InputError("bad row.")

    with pytest.raises(InputError, match="bad row"):
        store.write_table("t.parquet", broken(), SELECTION_SCHEMA, group=5)
    assert not store.exists("t.parquet")


def test_missing_objects_and_buckets_are_named(store: Store) -> None:
    with pytest.raises(InputError, match=r"s3://sead/.*/none does not exist\."):
        store.read_bytes("none")
    with pytest.raises(InputError, match="s3://no-such-bucket/x/a"):
        Store("s3://no-such-bucket/x").write_bytes("a", b"a")


@pytest.mark.parametrize("uri", ["http://host/x", "s3://", "ftp://a/b", "s4://bucket/x"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(InputError, match="s3://bucket/folder"):
        Store(uri)


def test_a_google_bucket_is_addressed_without_being_asked() -> None:
    store = Store("gs://bucket/runs/")
    assert store.path("a/b") == "gs://bucket/runs/a/b"
    assert not store.is_local
    fs, path = store.filesystem("a")
    assert (fs.type_name, path) == ("gcs", "bucket/runs/a")
