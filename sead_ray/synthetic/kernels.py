"""Compiled loops: how they are compiled, and when numba's copies on disk are out of date."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from numba import njit

kernel = njit(cache=True, error_model="numpy")
_STAMP = "sead_ray_kernels.sha256"
_CONSTANTS = ("network.py", "routes.py")  # whose values are compiled into kernels


@kernel
def _probe():
    return 0


@lru_cache(maxsize=1)
def refresh_kernels() -> None:
    """Drops compiled code of other sources, once a process, before the first kernel is used.

    numba looks only at the file of a function, not at the files of those it calls, and would go on with old ones.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        text = source.read_bytes()
        if b"@kernel" in text or source.name in _CONSTANTS:
            digest.update(text)
    folder = Path(str(_probe.stats.cache_path))
    stamp = folder / _STAMP
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    for index in folder.glob("*.nbi"):  # without its index the code itself is not found
        index.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest())
