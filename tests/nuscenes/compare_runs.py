"""Compares two prepared run folders: everything but instance tokens and attributes, which infos do not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.storage import Store


def clip_rows(run: Store) -> dict[str, dict[str, Any]]:
    return {row["clip_token"]: row for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)}


def label_rows(run: Store) -> dict[str, dict[str, Any]]:
    return {row["frame_token"]: row for row in run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA)}


def unequal(first: Any, second: Any, tolerance: float, path: str = "") -> Iterator[str]:
    """Paths at which two rows differ: numbers by more than the tolerance, anything else at all."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        for key in first:
            if key == "rotation_wxyz" and first[key][0] * second[key][0] + first[key][3] * second[key][3] < 0:
                second = {**second, key: [-value for value in second[key]]}  # the same rotation
            yield from unequal(first[key], second[key], tolerance, f"{path}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for index, (one, other) in enumerate(zip(first, second)):
            yield from unequal(one, other, tolerance, f"{path}[{index}]")
    elif isinstance(first, float) and isinstance(second, float):
        if not abs(first - second) <= tolerance:
            yield f"{path}: {first} and {second}"
    elif first != second:
        yield f"{path}: {first!r} and {second!r}"


def take_instances(labels: dict[str, dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Removes instance tokens and attributes from label rows; returns (frame, box, token) of each."""
    for row in labels.values():
        for item in row["annotations"]:
            item.pop("attribute")
    return [
        (frame, index, item.pop("instance_token"))
        for frame, row in sorted(labels.items())
        for index, item in enumerate(row["annotations"])
    ]


def same_grouping(first: list[tuple[str, int, str]], second: list[tuple[str, int, str]]) -> bool:
    """Whether two ways of naming instances put the same boxes together."""
    if [item[:2] for item in first] != [item[:2] for item in second]:
        return False
    pairs = {(one[2], other[2]) for one, other in zip(first, second)}
    return len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
