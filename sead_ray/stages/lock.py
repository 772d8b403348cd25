"""One driver for one run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sead_ray.errors import RunBusyError
from sead_ray.stages import layout
from sead_ray.storage import Store


@contextmanager
def driver_lock(run: Store, key: str = layout.LOCK) -> Generator[None, None, None]:
    """Holds the run folder for this process; the kernel lets go when the process ends, however it ends.

    Args:
        key: of the lock file, for what may go on beside a driver.

    Raises:
        RunBusyError: another driver holds it; the sentence names its host and process.
    """
    if not run.is_local:  # object stores have no such lock
        yield
        return
    path = Path(run.path(key))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise RunBusyError(f"The run folder {run.root} is in use by {_owner(file.read())}.") from None
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started}))
        file.flush()
        yield


def _owner(text: str) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']}, started {owner['started']}"
    except (json.JSONDecodeError, KeyError):
        return "another process"
