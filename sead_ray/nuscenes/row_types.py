"""The kind of each column of nuScenes' tables: damaged files are refused by file and token before anything counts on
them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sead_ray.errors import InputError

_WHOLE = {"timestamp", "width", "height", "nbr_samples", "num_lidar_pts", "num_radar_pts"}
_LISTS = {"translation", "rotation", "size", "camera_intrinsic", "attribute_tokens"}
_NOT_NEGATIVE = {"num_lidar_pts", "num_radar_pts"}
_POSITIVE = {"timestamp"}


def check_rows(rows: Iterable[dict[str, Any]], path: str) -> None:
    """Raises `InputError` at the first value of another kind than its column's: text, unless it is named above."""
    for row in rows:
        for column, value in row.items():
            if column in _WHOLE:
                fits, kind = type(value) is int, "a whole number"
                if fits and ((column in _NOT_NEGATIVE and value < 0) or (column in _POSITIVE and value <= 0)):
                    fits, kind = False, "a number that can be"
            elif column in _LISTS:
                fits, kind = isinstance(value, list), "a list"
            else:
                fits, kind = isinstance(value, str), "a text"
            if not fits:
                raise InputError(f"{path}: the {column} of row {row.get('token')!r} is {value!r}, not {kind}.")


def check_unique(rows: Iterable[dict[str, Any]], path: str) -> None:
    """Raises `InputError` where two rows have the same token."""
    seen: set[str] = set()
    for row in rows:
        if row["token"] in seen:
            raise InputError(f"{path} has two rows of the token {row['token']!r}.")
        seen.add(row["token"])
