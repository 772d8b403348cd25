"""Which scenes a split holds: a list of names, a file of names, the folder's splits.json, or nuScenes' own lists."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sead_ray.errors import InputError
from sead_ray.storage import Store

SPLITS_FILE = "splits.json"
LIST_SUFFIXES = (".json", ".txt")

Split = str | Sequence[str]


def split_scene_names(store: Store, version: str, split: Split) -> list[str]:
    """Names of the scenes of `split`.

    Args:
        split: names; or the path or URI of a .json or .txt file of names; or the name of a split in splits.json
            (below the data root, or in the version folder, where the devkit looks for it) or of nuScenes itself.
    """
    if not isinstance(split, str) or is_list(split):
        return listed_names(split)
    own: dict[str, list[str]] = {}
    for key in (SPLITS_FILE, f"{version}/{SPLITS_FILE}"):
        if store.exists(key):
            own = read_splits(store, key)
            break
    if split in own:
        return _checked(own[split], f"Split {split!r} of {store.path(key)}")
    from nuscenes.utils.splits import create_splits_scenes  # late: the devkit's import takes seconds

    official = create_splits_scenes()
    if split not in official:
        known = ", ".join([*own, *official])
        raise InputError(f"Split {split!r} is neither in splits.json nor one of nuScenes' own; known are {known}.")
    return list(official[split])


def read_splits(store: Store, key: str) -> dict[str, list[str]]:
    """A splits.json: name of a split -> names of scenes, not yet checked."""
    splits = store.read_json(key)
    if not isinstance(splits, dict):
        raise InputError(f"{store.path(key)} must map the names of splits to lists of scene names.")
    return splits


def listed_names(split: Split) -> list[str]:
    """The names of a split for which `is_list` holds."""
    if isinstance(split, str):
        return _checked(_read_list(split), split)
    return _checked(list(split), "The list of scenes")


def is_list(split: Split) -> bool:
    """Whether the user named the scenes, all of which must then be there."""
    return not isinstance(split, str) or split.endswith(LIST_SUFFIXES)


def name_of(split: Split) -> str:
    """For messages."""
    return f"Split {split!r}" if isinstance(split, str) else f"The list of {len(split)} scene(s)"


def _read_list(path: str) -> object:
    """A JSON list, or one name a line."""
    local = os.path.expanduser(path)
    folder, name = os.path.split(local if "://" in path else os.path.abspath(local))
    store = Store(folder)
    if not store.exists(name):
        raise InputError(f"{path} does not exist: a split that ends in .json or .txt is a file of scene names.")
    if name.endswith(".json"):
        return store.read_json(name)
    try:
        return [line.strip() for line in store.read_bytes(name).decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text of scene names.") from None


def _checked(names: object, owner: str) -> list[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{owner} is not a list of scene names.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{owner} names {twice[0]} twice.")
    return names
