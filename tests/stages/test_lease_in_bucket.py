"""One driver a run folder in a bucket, by conditional writes; real processes against a server that speaks S3's API."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from sead_ray.errors import FencedError, InputError, RunBusyError
from sead_ray.objects import ConflictError, read_object, write_object
from sead_ray.stages import layout
from sead_ray.stages.heartbeat import PATIENCE
from sead_ray.stages.lease import Lease, lease_bytes, read_lease
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store
from tests.stages.holder import holding

BEAT_S = 0.2
HOLDER = """
import sys
from sead_ray.errors import FencedError
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store
run = Store(sys.argv[1])
try:
    with driver_lock(run, heartbeat_s=float(sys.argv[2])):
        print("held", flush=True)
        if sys.stdin.readline():
            run.write_bytes("stage/a.bin", b"late")
            run.publish("stage", {"by": "the first"})
except FencedError as error:
    print(error, flush=True)
    raise SystemExit(2)
"""


def held_by_another_process(run: Store, beat_s: float = BEAT_S) -> AbstractContextManager[subprocess.Popen[str]]:
    return holding(HOLDER, run.root, str(beat_s))


@pytest.fixture
def run(s3_bucket: str, request: pytest.FixtureRequest) -> Store:
    return Store(f"{s3_bucket}/{request.node.name}")


def _elsewhere(run: Store) -> Lease:
    """Rewrites the lease as if its holder were on another machine: only its heart says whether it lives."""
    lease = Lease("node-7", 4711, "other:4711:1", "theirs", "2026-11-27 10:00:00", BEAT_S, fence=4)
    while True:
        found = read_object(run.path(layout.LOCK))
        try:
            write_object(run.path(layout.LOCK), lease_bytes(lease), found[1] if found else None)
            return lease
        except ConflictError:  # the holder's heart beat in between
            continue


def test_a_conditional_write_is_one(s3_bucket: str) -> None:
    uri = f"{s3_bucket}/conditional/a"
    assert read_object(uri) is None
    first = write_object(uri, b"1", None)
    with pytest.raises(ConflictError):
        write_object(uri, b"2", None)
    second = write_object(uri, b"2", first)
    with pytest.raises(ConflictError):
        write_object(uri, b"3", first)
    assert read_object(uri) == (b"2", second)


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(run: Store) -> None:
    with held_by_another_process(run) as holder:
        with pytest.raises(RunBusyError) as caught, driver_lock(run, BEAT_S):
            pass
        assert f"process {holder.pid} on {socket.gethostname()}" in str(caught.value)
        assert run.root in str(caught.value)
        holder.kill()
        holder.wait()
        with driver_lock(run, heartbeat_s=30.0):  # its process is gone from this machine: no wait
            lease = read_lease(run)
            assert lease is not None
            assert lease.fence == 2
    with driver_lock(run, BEAT_S):
        pass


def test_a_holder_elsewhere_that_beats_is_left_alone(run: Store) -> None:
    lease = _elsewhere(run)
    tag = read_object(run.path(layout.LOCK))
    assert tag is not None

    beats = threading.Event()

    def beat() -> None:
        latest, number = tag[1], 1
        while not beats.wait(BEAT_S):
            latest = write_object(run.path(layout.LOCK), lease_bytes(replace(lease, beats=number)), latest)
            number += 1

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunBusyError, match="process 4711 on node-7"), driver_lock(run, BEAT_S):
            pass
    finally:
        beats.set()
        thread.join()


def test_a_silent_holder_elsewhere_is_taken_over_after_the_wait(run: Store) -> None:
    _elsewhere(run)
    started = time.monotonic()
    with driver_lock(run, BEAT_S):
        assert time.monotonic() - started > PATIENCE * BEAT_S * 0.9
        lease = read_lease(run)
        assert lease is not None
        assert (lease.fence, lease.pid) == (5, os.getpid())


def test_who_was_taken_over_is_fenced(run: Store) -> None:
    """The first driver stands still, as on a machine that swaps or sleeps; the second takes over; the first wakes."""
    with held_by_another_process(run, beat_s=30.0) as first:
        os.kill(first.pid, signal.SIGSTOP)
        lease = _elsewhere(run)
        os.kill(first.pid, signal.SIGCONT)
        said, _ = first.communicate("publish\n", timeout=60)
        assert f"{lease.pid} on {lease.host}" in said
        assert first.returncode == 2
        assert not run.is_published("stage")


def test_a_fenced_driver_is_interrupted_in_its_work(run: Store) -> None:
    started = time.monotonic()
    with pytest.raises(FencedError, match="node-7"), driver_lock(run, BEAT_S):
        _taken_and_slept(run)
    assert time.monotonic() - started < 20


def _taken_and_slept(run: Store) -> None:
    _elsewhere(run)
    time.sleep(30)


def test_a_publication_in_a_bucket_is_made_once(run: Store) -> None:
    run.write_bytes("stage/a.bin", b"a")
    run.publish("stage", {"n": 1})
    run.publish("stage", {"n": 1})
    with pytest.raises(FencedError, match="published by another driver"):
        run.publish("stage", {"n": 2})
    assert run.manifest("stage")["n"] == 1


def test_a_bucket_that_is_not_there_is_named(s3_bucket: str) -> None:
    with pytest.raises(InputError, match="s3://no-such-bucket"), driver_lock(Store("s3://no-such-bucket/run")):
        pass
