"""What a pickle calls to make numpy arrays, written anew so that it cannot be abused.

numpy's own `ndarray.__setstate__`, `dtype.__setstate__` and `scalar` trust what they are given: a file that declares
eight bytes of text to be a Python object crashes the interpreter, or worse. These take plain numbers, truth values and
text only, and check sizes first.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_SPELLING = re.compile(r"[<>|=]?(b1|\?|O8?|[iufc][0-9]{1,2}|[SU][0-9]{1,7})")


class DType:
    """A data type as a pickle spells it: its name, then (as state) its byte order."""

    def __init__(self, spelling: Any, align: Any = False, copy: Any = False) -> None:
        if isinstance(spelling, bytes):
            spelling = spelling.decode("ascii")
        if not isinstance(spelling, str) or not _SPELLING.fullmatch(spelling):
            raise pickle.UnpicklingError(f"an array of {spelling!r}")
        self.value = np.dtype(spelling)
        self.is_object = self.value == np.dtype(object)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(item is not None for item in state[2:5]):
            raise pickle.UnpicklingError("an array of records")
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a data type without byte order")
        if order in "<>":
            self.value = self.value.newbyteorder(order)


class Array(np.ndarray):
    """An array whose state is checked before numpy takes it."""

    def __setstate__(self, state: Any) -> None:
        try:
            _version, shape, dtype, fortran, data = state
        except (TypeError, ValueError):
            raise pickle.UnpicklingError("an array without its five parts") from None
        if self.size or self.base is not None or not isinstance(dtype, DType):
            raise pickle.UnpicklingError("an array that is filled twice, or of no data type")
        count = _count(shape)
        if dtype.is_object:
            fits = isinstance(data, list) and len(data) == count
        else:
            data = data.encode("latin1") if isinstance(data, str) else data  # protocol 0 of Python 2
            fits = isinstance(data, bytes) and len(data) == count * dtype.value.itemsize
        if not fits:
            raise pickle.UnpicklingError("an array whose data do not fill it")
        super().__setstate__((1, shape, dtype.value, bool(fortran), data))


def ndarray_class(*_: Any) -> Any:
    """Stands for `numpy.ndarray`, which files name and never call."""
    raise pickle.UnpicklingError("a call of numpy.ndarray")


def reconstruct(subtype: Any, shape: Any, kind: Any) -> Array:
    if subtype is not ndarray_class:
        raise pickle.UnpicklingError("an array of another class")
    return Array((0,), np.int8)


def scalar(dtype: Any, data: Any = None) -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(dtype, DType) or dtype.is_object or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a scalar of no plain type")
    if len(data) != dtype.value.itemsize:
        raise pickle.UnpicklingError("a scalar of another size")
    return np.frombuffer(data, dtype.value, count=1)[0] if data else dtype.value.type()


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    """How protocol 5 makes contiguous arrays; `axis_order` is numpy 2.3's."""
    if not isinstance(dtype, DType) or dtype.is_object or not isinstance(data, (bytes, bytearray)):
        raise pickle.UnpicklingError("an array of no plain type")
    if len(data) != _count(shape) * dtype.value.itemsize:
        raise pickle.UnpicklingError("an array whose data do not fill it")
    flat = np.frombuffer(bytes(data), dtype.value) if data else np.zeros(0, dtype.value)
    if order == "K" and axis_order is not None:
        return flat.reshape(shape).transpose(axis_order).view(Array)
    return flat.reshape(shape, order="F" if order == "F" else "C").view(Array)


def admitted() -> dict[tuple[str, str], Callable[..., Any]]:
    """(module, name) → what stands for it here. numpy's helpers are named by both places that they had."""
    table: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): ndarray_class,
        ("numpy", "dtype"): DType,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = reconstruct
        table[f"{core}.multiarray", "scalar"] = scalar
        table[f"{core}.numeric", "_frombuffer"] = from_buffer
    return table


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError("an array of no shape")
    return math.prod(shape)
