"""The lease on a run folder: who holds it, in `driver.lock`."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sead_ray.errors import FencedError
from sead_ray.objects import read_object
from sead_ray.stages import layout
from sead_ray.storage import Store


@dataclass(frozen=True)
class Lease:
    """Who holds a run folder.

    Attributes:
        process: tells processes of one machine apart, also from a later one with the same number.
        lease: of this holding alone.
        fence: one more than that of the holder before.
    """

    host: str
    pid: int
    process: str
    lease: str
    started: str
    heartbeat_s: float
    fence: int = 1
    beats: int = 0
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


def require_lease(run: Store, lease: str | None) -> None:
    """Raises `FencedError` where the folder is held by another holding than `lease`; None: nobody held it."""
    if lease is None:
        return
    found = read_lease(run)
    if found is None or found.lease != lease:
        raise FencedError(taken_over(run, found))


def read_lease(run: Store) -> Lease | None:
    """What `driver.lock` says; None where there is none."""
    if run.is_local:
        try:
            return parse_lease(Path(run.path(layout.LOCK)).read_bytes())
        except FileNotFoundError:
            return None
    found = read_object(run.path(layout.LOCK))
    return parse_lease(found[0]) if found else None


def taken_over(run: Store, holder: Lease | None) -> str:
    by = f"taken over by {holder} (fence {holder.fence})" if holder else "removed"
    return f"The lease of this driver on {run.root} was {by}: nothing more is published from here."


def lease_bytes(lease: Lease) -> bytes:
    return json.dumps(asdict(lease)).encode()


def parse_lease(data: bytes) -> Lease | None:
    """None for what no driver of this version wrote."""
    try:
        values: dict[str, Any] = json.loads(data)
        return Lease(**values)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        return None


def machine_key() -> str:
    """Of this boot and, in a container, of its own processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}".replace(":", "")
    except OSError:
        return uuid.uuid4().hex  # matches nobody's: the heartbeat decides


def process_key(pid: int) -> str:
    """Machine and start time of a process; of one that is gone, nothing that a lease could say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        started = "gone" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        started = "gone"
    return f"{machine_key()}:{pid}:{started}"
