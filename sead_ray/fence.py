"""Which folders this process may publish into: a driver that lost its run folder meanwhile finds out here.

`stages.lock` registers a check for as long as it holds a folder; folders without one are free, as in workers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

Check = Callable[[bool], None]  # (ask the storage itself) -> nothing; raises `FencedError` where the folder is lost

_checks: dict[str, Check] = {}


@contextmanager
def guarded(root: str, check: Check) -> Generator[None, None, None]:
    """Has `check` asked before anything below `root` is written by this process, within the block."""
    _checks[root] = check
    try:
        yield
    finally:
        del _checks[root]


def require_held(path: str, certain: bool = False) -> None:
    """Raises `FencedError` where `path` lies in a folder that this process has lost.

    Args:
        certain: ask the storage, as before a publication, not only what the last heartbeat learnt.
    """
    for root, check in list(_checks.items()):
        if path == root or path.startswith(f"{root}/"):
            check(certain)
