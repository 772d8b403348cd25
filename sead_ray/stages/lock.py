"""One driver for one run folder: a lease in `driver.lock` that names its holder, and a fence number that grows.

On a disk the kernel's lock on the file says whether the holder lives. In a bucket the holder writes the lease again
with every heartbeat, by compare-and-set (`sead_ray.objects`): whoever wants the folder watches the lease, and takes it
over where it stays as it is for `PATIENCE` heartbeats. No clock is compared with another machine's. A driver that was
taken over, or could not write its heartbeat for so long, is fenced: it is interrupted, and publishes nothing more.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

from sead_ray.errors import FencedError, RunBusyError
from sead_ray.fence import guarded
from sead_ray.objects import ConflictError, Tag, read_object, write_object
from sead_ray.stages import layout
from sead_ray.stages.heartbeat import PATIENCE, Heartbeat
from sead_ray.stages.interrupt import heard
from sead_ray.stages.lease import Lease, lease_bytes, machine_key, parse_lease, process_key, require_lease
from sead_ray.stages.progress import say
from sead_ray.storage import Store

HEARTBEAT_S = 10.0

_leases: dict[str, str] = {}


@contextmanager
def driver_lock(run: Store, heartbeat_s: float = HEARTBEAT_S) -> Generator[None, None, None]:
    """Holds the run folder for this process.

    Raises:
        RunBusyError: another driver holds it; the sentence names its host and process.
        FencedError: another driver took it over meanwhile, or the bucket was out of reach for too long.
    """
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    mine = Lease(socket.gethostname(), os.getpid(), process_key(os.getpid()), uuid.uuid4().hex, now, heartbeat_s)
    with _held_on_disk(run, mine) if run.is_local else _held_in_bucket(run, mine):
        _leases[run.root] = mine.lease
        try:
            yield
        finally:
            del _leases[run.root]


def held_lease(run: Store) -> str | None:
    """The name of this process's holding, for workers that write into the run folder on its behalf."""
    return _leases.get(run.root)


@contextmanager
def _held_on_disk(run: Store, mine: Lease) -> Generator[None, None, None]:
    file = _locked_file(run)
    with file:
        before = parse_lease(file.read().encode())
        mine = replace(mine, fence=before.fence + 1 if before else 1)
        _rewrite(file, mine)
        with guarded(run.root, lambda certain: require_lease(run, mine.lease) if certain else None):
            yield
        _rewrite(file, replace(mine, released=True))


def _locked_file(run: Store) -> IO[str]:
    path = Path(run.path(layout.LOCK))
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a+")  # noqa: SIM115 - closed by the caller: closing it ends the lock
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = parse_lease(file.read().encode()) or "another process"
            file.close()
            raise RunBusyError(f"The run folder {run.root} is in use by {holder}.") from None
        file.seek(0)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # removed, and made anew by another driver, between the two lines above


def _rewrite(file: IO[str], lease: Lease) -> None:
    file.truncate(0)
    file.write(lease_bytes(lease).decode())
    file.flush()


@contextmanager
def _held_in_bucket(run: Store, mine: Lease) -> Generator[None, None, None]:
    heartbeat = Heartbeat(run, *_taken(run, mine))
    heartbeat.start()
    try:
        with heard(), guarded(run.root, heartbeat.check):
            yield
    except KeyboardInterrupt:
        if heartbeat.lost:
            raise FencedError(heartbeat.lost) from None
        raise
    finally:
        heartbeat.end()


def _taken(run: Store, mine: Lease) -> tuple[Lease, Tag]:
    """The lease as it stands in the bucket from now on.

    Raises:
        RunBusyError: another driver holds it.
    """
    uri = run.path(layout.LOCK)
    while True:
        found = read_object(uri)
        holder, tag = (parse_lease(found[0]), found[1]) if found else (None, None)
        if holder and not holder.released and not _takeable(run, holder, tag):
            raise RunBusyError(f"The run folder {run.root} is in use by {holder}.")
        mine = replace(mine, fence=holder.fence + 1 if holder else 1)
        try:
            return mine, write_object(uri, lease_bytes(mine), tag)
        except ConflictError:  # another driver was faster: let it be looked at
            continue


def _takeable(run: Store, holder: Lease, tag: Tag | None) -> bool:
    """Whether `holder` is dead: its process is gone from this machine, or its heart does not beat."""
    if holder.host == socket.gethostname() and holder.process.partition(":")[0] == machine_key():
        return process_key(holder.pid) != holder.process
    wait_s = holder.heartbeat_s * PATIENCE
    say(f"{run.root} was last held by {holder}: waiting up to {wait_s:.0f} s for a sign of it")
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        time.sleep(holder.heartbeat_s / 4)
        found = read_object(run.path(layout.LOCK))
        if found is None or found[1] != tag:
            return found is None or (lease := parse_lease(found[0])) is None or lease.released
    say(f"{run.root}: no sign of {holder}, its lease is taken over", "warning")
    return True
