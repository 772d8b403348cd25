"""Images that a client names instead of sending: keys below a folder that the operator allowed, and nothing else.

No URL is ever opened: a folder is taken only if it is spelled exactly as in `storage_prefixes`, and a key is a plain
path below it. On a local disk a link that leads out of the folder is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.storage import Store
from serve.errors import ApiError

# Words of a plain path: no scheme, escape, wildcard, backslash, control character, hidden file, `.` or `..`.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*")


def allowed_store(storage: str, limits: ServeConfig) -> Store:
    """The folder, if the operator allows it; `ApiError` 422 otherwise."""
    if storage not in limits.storage_prefixes:
        raise ApiError(422, "This folder is not among those that this service reads.", "storage")
    return Store(storage)


def check_key(key: str, field: str) -> None:
    if not _KEY.fullmatch(key):
        raise ApiError(422, "A key must be a plain path below the storage folder: letters, digits, _ . + = @ -.", field)


def read_images(
    store: Store, named: Sequence[tuple[str, str]], max_bytes_each: int, max_bytes: int
) -> dict[str, bytes]:
    """Bytes of each key, all sizes known before the first is read.

    Args:
        named: (key, field path) of each image.

    Raises:
        ApiError: 422 names the field of a key that is no path below the store, missing, or too large; 503 where the
            storage cannot be reached.
    """
    for key, field in named:
        check_key(key, field)
        _check_inside(store, key, field)
    try:
        sizes = store.file_sizes([key for key, _ in named])
    except (InputError, OSError):
        raise ApiError(503, "The storage cannot be reached; try again later.", "storage") from None
    for key, field in named:
        size = sizes[key]
        if size is None:
            raise ApiError(422, "There is no such file in the storage folder.", field)
        if size > max_bytes_each:
            raise ApiError(422, f"The image has {size} bytes; the limit is {max_bytes_each}.", field)
    if sum(size or 0 for size in sizes.values()) > max_bytes:
        raise ApiError(422, f"The images have more than {max_bytes} bytes in all.", "frames")
    return {key: _read(store, key, field) for key, field in named}


def _read(store: Store, key: str, field: str) -> bytes:
    try:
        return store.read_bytes(key)
    except (InputError, OSError):  # vanished or forbidden; the path is the operator's business
        raise ApiError(422, "The file in the storage folder cannot be read.", field) from None


def _check_inside(store: Store, key: str, field: str) -> None:
    if not store.is_local:
        return
    root = os.path.realpath(store.root)
    if os.path.commonpath([root, os.path.realpath(store.path(key))]) != root:
        raise ApiError(422, "The key leads out of the storage folder.", field)
