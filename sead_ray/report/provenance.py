"""From what, and with what, a run was made: versions, hashes, manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from sead_ray.report.rounds import NOTHING, STAGES, round_key
from sead_ray.storage import Store

PACKAGES = ("sead_ray", "torch", "ray", "mmdet3d", "numpy", "pyarrow", "nuscenes-devkit", "matplotlib")


def model_facts(run: Store, index: int) -> dict[str, Any] | None:
    """Of round `index`'s model; None where it is not published."""
    key = round_key(index, "model")
    if not run.is_published(key):
        return None
    manifest = run.manifest(key)
    return {
        "round": index,
        "version": manifest.get("model_version", NOTHING),
        "steps": manifest.get("steps", NOTHING),
        "sha256": manifest.get("files", {}).get("weights.safetensors", NOTHING),
    }


def manifests(run: Store, rounds: Sequence[int]) -> list[tuple[str, str]]:
    """The manifests of all published stages, as text; they hold the SHA-256 of every file."""
    keys = ["clips", "labels", *(round_key(index, stage) for index in rounds for stage in STAGES)]
    return [(key, json.dumps(run.manifest(key), indent=1, sort_keys=True)) for key in keys if run.is_published(key)]


def versions() -> list[tuple[str, str]]:
    """Of the packages that wrote the page, where they are installed."""
    found = []
    for name in PACKAGES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found
