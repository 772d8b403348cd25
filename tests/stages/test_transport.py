"""Objects between tasks: nothing large is copied, whatever is packed comes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import ray

from sead_ray.stages.attempts import Failure
from sead_ray.stages.transport import LARGE_BYTES, pack, unpack


@dataclass
class Item:
    name: str
    images: np.ndarray
    again: np.ndarray
    small: np.ndarray


def item(name: str, megabytes: int = 3) -> Item:
    images = np.random.default_rng(len(name)).integers(0, 255, (megabytes, LARGE_BYTES), np.uint8)
    return Item(name, images, images, np.arange(5))


def address(table: pa.Table, row: int = 0) -> int:
    return table.column("array").chunk(row).buffers()[2].address


def test_packing_copies_no_large_array() -> None:
    original = item("a")
    assert address(pack([("a", original)])) == original.images.ctypes.data


def test_unpacking_gives_views_of_the_table() -> None:
    originals = [item("a", 2), item("bb", 3)]
    table = pack([(one.name, one) for one in originals])
    for row, ((token, found), original) in enumerate(zip(unpack(table), originals, strict=True)):
        assert token == found.name == original.name
        assert found.images.ctypes.data == address(table, row)
        assert found.again is found.images  # one object is still one
        assert not found.images.flags.writeable
        np.testing.assert_array_equal(found.images, original.images)
        np.testing.assert_array_equal(found.small, original.small)


def test_rows_of_one_chunk_and_slices() -> None:
    """Ray may put rows together or cut a table."""
    table = pack([(name, item(name, len(name))) for name in ("a", "bb", "ccc")]).combine_chunks()
    assert [(token, len(found.images)) for token, found in unpack(table)] == [("a", 1), ("bb", 2), ("ccc", 3)]
    assert [token for token, _ in unpack(table.slice(1, 2))] == ["bb", "ccc"]
    np.testing.assert_array_equal(unpack(table.slice(2))[0][1].images, item("ccc").images)


def test_small_objects_and_none_at_all() -> None:
    rows = [("a", Failure("why")), ("b", {"x": np.zeros((2, 0))}), ("c", (1, None))]
    found = unpack(pack(rows))
    assert [token for token, _ in found] == ["a", "b", "c"]
    assert found[0][1] == Failure("why")
    assert found[1][1]["x"].shape == (2, 0)
    assert unpack(pack([])) == []


def test_two_large_arrays() -> None:
    first, second = item("a").images, item("bb").images
    found = unpack(pack([("t", [first, second])]))[0][1]
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], second)


@pytest.mark.usefixtures("ray_cluster")
def test_read_in_place_from_rays_object_store() -> None:
    reference = ray.put(pack([("a", item("a"))]))
    first, second = (unpack(ray.get(reference))[0][1].images for _ in range(2))
    assert first.ctypes.data == second.ctypes.data  # both are the store's memory
    np.testing.assert_array_equal(first, item("a").images)
