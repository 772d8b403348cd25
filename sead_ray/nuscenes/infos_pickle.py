"""Reads a pickle of VAD's infos through an unpickler that admits numpy arrays and plain containers only.

A pickle is a program: an ordinary `pickle.load` runs whatever its author put in. Here every name that the file asks for
is looked up in a table of a dozen harmless ones; any other ends the reading before anything of it is executed. Arrays
are made by `safe_arrays`, since even numpy's own helpers can be abused.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

from sead_ray.errors import InputError
from sead_ray.nuscenes import safe_arrays
from sead_ray.storage import Store

Info = dict[str, Any]

# What damaged pickles raise: nearly anything.
_DAMAGED = (
    *(pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, AssertionError),
    *(ImportError, MemoryError, OverflowError, RecursionError, BufferError, NotImplementedError),
)


class ForbiddenGlobal(InputError):
    """A pickle asks for a name that is not admitted."""


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How protocol 2 writes empty bytes."""
    return b""


def _admitted() -> dict[tuple[str, str], Callable[..., Any]]:
    """(module, name) → what it stands for."""
    table = safe_arrays.admitted()
    table |= {("_codecs", "encode"): _latin1, ("collections", "OrderedDict"): collections.OrderedDict}
    for builtins in ("builtins", "__builtin__"):  # the second is how protocols 0 to 2 name it
        table |= {(builtins, "set"): set, (builtins, "frozenset"): frozenset, (builtins, "bytes"): _no_bytes}
    return table


class _Unpickler(pickle.Unpickler):
    _table = _admitted()

    def __init__(self, file: BinaryIO, path: str) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._table[module, name]
        except KeyError:
            raise ForbiddenGlobal(
                f"{self._path} is refused: the pickle asks for {module}.{name}, and only numpy arrays and plain "
                "containers are admitted."
            ) from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_infos(path: str) -> list[Info]:
    """The infos of a VAD info file (local path or URI), in its order; the whole file is held in memory.

    Raises:
        InputError: the file is missing, no pickle, asks for a forbidden name, or holds no list of infos.
    """
    content = _unpickle(path)
    infos = content.get("infos") if isinstance(content, dict) else content
    if not isinstance(infos, list) or not all(isinstance(info, dict) for info in infos):
        raise InputError(f"{path} is not a file of VAD infos: it holds no list of dictionaries under 'infos'.")
    if not infos:
        raise InputError(f"{path} holds no info at all.")
    return infos


def _unpickle(path: str) -> Any:
    try:
        with _open(path) as file:
            return _Unpickler(file, path).load()
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    except _DAMAGED as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise InputError(f"{path} is not a readable pickle of VAD infos ({reason}).") from None


def _open(path: str) -> BinaryIO:
    if "://" not in path:
        return open(os.path.expanduser(path), "rb")
    folder, _, name = path.rpartition("/")
    return io.BytesIO(Store(folder).read_bytes(name))
