"""Compiled loops: how they are compiled, and when numba's copies on disk are out of date.

The copies lie where numba finds a folder to write to: beside the sources, in `NUMBA_CACHE_DIR` where that is set, else
in the user's cache. Where there is none, such as in a read-only container, each process compiles for itself in memory.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core.registry import cpu_target

_NAME = "sead_ray_kernels"
_CONSTANTS = ("network.py", "routes.py")  # whose values are compiled into kernels


def kernel(function: Callable[..., Any]) -> Any:
    """Decorator of a loop that is compiled when it is first called."""
    try:
        return njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # numba: "cannot cache function ...: no locator available"
        return njit(error_model="numpy")(function)


@kernel
def _probe():
    return 0


def cache_folder() -> Path | None:
    """Where this package's compiled code is kept; None: nowhere."""
    path = _probe.stats.cache_path
    return Path(path) if path else None


@lru_cache(maxsize=1)
def kernels_digest() -> str:
    """Of the sources of all kernels, numba's version and this processor."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        text = source.read_bytes()
        if b"@kernel" in text or source.name in _CONSTANTS:
            digest.update(text)
    machine = (numba.__version__, cpu_target.target_context.codegen().magic_tuple())
    return hashlib.sha256(f"{digest.hexdigest()} {machine}".encode()).hexdigest()


@lru_cache(maxsize=1)
def refresh_kernels() -> None:
    """Drops compiled code of other sources, once a process, before the first kernel is used.

    numba looks only at the file of a function, not at the files of those it calls, and would go on with old ones.
    """
    folder = cache_folder()
    if folder is None:
        return
    stamp = folder / f"{_NAME}.sha256"
    with machine_lock("refresh"):
        if stamp.exists() and stamp.read_text() == kernels_digest():
            return
        for index in folder.glob("*.nbi"):  # without its index the code itself is not found
            index.unlink(missing_ok=True)
        for done in folder.glob(f"{_NAME}.*.done"):
            done.unlink(missing_ok=True)
        stamp.write_text(kernels_digest())


@contextmanager
def machine_lock(name: str, wait: bool = True) -> Generator[bool, None, None]:
    """Holds a lock among the processes that share the cache folder; yields whether it does. It ends with its holder."""
    folder = cache_folder()
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{_NAME}.{name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def once_a_machine(name: str, compile_part: Callable[[], None], wait: bool) -> bool:
    """Compiles a part of the kernels unless some process of this machine has; false where one is at it right now."""
    folder = cache_folder()
    assert folder is not None
    done = folder / f"{_NAME}.{name}.done"
    if done.exists():
        return True
    with machine_lock(name, wait) as held:
        if held and not done.exists():
            compile_part()
            done.touch()
    return held
