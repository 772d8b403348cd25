"""Fields of an info of VAD's format, each checked; errors name the info's token and the field."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.nuscenes.infos_pickle import Info

Array = NDArray[np.float64]


def text(info: Info, field: str, owner: str) -> str:
    value = _present(info, field, owner)
    if not isinstance(value, (str, np.str_)):
        raise InputError(f"{owner} has a {field} that is not text.")
    return str(value)


def whole(info: Info, field: str, owner: str) -> int:
    value = _present(info, field, owner)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{owner} has a {field} that is not a whole number.")
    return int(value)


def numbers(info: Info, field: str, shape: tuple[int, ...], owner: str, finite: bool = True) -> Array:
    """The field as float64 of a shape, in which -1 stands for any length."""
    value = _present(info, field, owner)
    try:
        array = np.asarray(value, np.float64)
        if array.size == 0:
            array = array.reshape([max(length, 0) for length in shape])
    except (TypeError, ValueError):
        array = np.empty(())
    fits = array.ndim == len(shape) and all(want in (-1, has) for want, has in zip(shape, array.shape))
    if not fits or (finite and not np.isfinite(array).all()):
        wanted = " x ".join("n" if length < 0 else str(length) for length in shape)
        raise InputError(f"{owner} has a {field} that is not {wanted} {'finite ' if finite else ''}numbers.")
    return array


def pose(info: Info, name: str, owner: str) -> Pose:
    """`<name>_translation` and `<name>_rotation`."""
    x, y, z = numbers(info, f"{name}_translation", (3,), owner).tolist()
    qw, qx, qy, qz = numbers(info, f"{name}_rotation", (4,), owner).tolist()
    if not 0.99 < qw * qw + qx * qx + qy * qy + qz * qz < 1.01:
        raise InputError(f"{owner} has a {name}_rotation that is not a unit quaternion.")
    return Pose((x, y, z), (qw, qx, qy, qz))


def names(info: Info, field: str, count: int, owner: str) -> list[str]:
    value = _present(info, field, owner)
    found = [str(item) for item in np.asarray(value).reshape(-1)] if isinstance(value, (list, np.ndarray)) else []
    if len(found) != count:
        raise InputError(f"{owner} has a {field} that is not {count} names, one for each box.")
    return found


def _present(info: Info, field: str, owner: str) -> Any:
    if field not in info:
        raise InputError(f"{owner} has no field {field!r}.")
    return info[field]
