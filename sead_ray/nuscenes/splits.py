"""Which scenes a split holds: the folder's own splits.json, else nuScenes' official lists."""

from __future__ import annotations

from sead_ray.errors import InputError
from sead_ray.storage import Store

SPLITS_FILE = "splits.json"


def split_scene_names(store: Store, version: str, split: str) -> list[str]:
    """Names of the scenes of `split`. The devkit looks for splits.json in the version folder; both places count."""
    own: dict[str, list[str]] = {}
    for key in (SPLITS_FILE, f"{version}/{SPLITS_FILE}"):
        if store.exists(key):
            own = store.read_json(key)
            if not isinstance(own, dict):
                raise InputError(f"{store.path(key)} must map the names of splits to lists of scene names.")
            break
    if split in own:
        return list(own[split])
    from nuscenes.utils.splits import create_splits_scenes  # late: the devkit's import takes seconds

    official = create_splits_scenes()
    if split not in official:
        known = ", ".join([*own, *official])
        raise InputError(f"Split {split!r} is neither in splits.json nor one of nuScenes' own: known are {known}.")
    return list(official[split])
