"""One driver a run folder, and no lock that outlives its holder."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sead_ray.errors import FencedError, InputError, RunBusyError
from sead_ray.stages import layout
from sead_ray.stages.lease import read_lease
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store
from tests.stages.holder import holding

HOLDER = """
import sys
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store
with driver_lock(Store(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def held_by_another_process(run: Store) -> AbstractContextManager[subprocess.Popen[str]]:
    return holding(HOLDER, run.root)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "new" / "run"))


def test_a_second_process_is_refused_by_name_until_the_first_is_killed(run: Store) -> None:
    with held_by_another_process(run) as holder:
        with pytest.raises(RunBusyError) as caught, driver_lock(run):
            pass
        message = str(caught.value)
        assert f"process {holder.pid} on {socket.gethostname()}" in message
        assert run.root in message
        assert "\n" not in message
        holder.kill()
        holder.wait()
        with driver_lock(run):
            pass


def test_one_process_may_not_hold_it_twice(run: Store) -> None:
    with driver_lock(run):
        with pytest.raises(RunBusyError, match=f"process {os.getpid()} "), driver_lock(run):
            pass
        with pytest.raises(RunBusyError), driver_lock(run):  # a refusal does not loosen it
            pass
    with driver_lock(run):
        pass


def test_it_is_released_where_the_work_fails(run: Store) -> None:
    with pytest.raises(ZeroDivisionError), driver_lock(run):
        raise ZeroDivisionError
    with driver_lock(run):
        pass


def test_other_folders_are_free(run: Store) -> None:
    with driver_lock(run), driver_lock(run.below("other")):
        pass


def test_the_fence_grows_with_every_holder(run: Store) -> None:
    fences = []
    for _ in range(3):
        with driver_lock(run):
            lease = read_lease(run)
            assert lease is not None
            assert (lease.pid, lease.released) == (os.getpid(), False)
            fences.append(lease.fence)
    assert fences == [1, 2, 3]


def test_who_lost_the_folder_publishes_nothing_more(run: Store) -> None:
    """Somebody removed the lock and began anew: the kernel tells neither, the lease does."""
    with driver_lock(run):
        run.write_bytes("stage/a.bin", b"mine")
        Path(run.path(layout.LOCK)).unlink()
        with held_by_another_process(run) as other:
            with pytest.raises(FencedError, match=f"process {other.pid} on .*fence 1") as caught:
                run.publish("stage", {})
            assert "\n" not in str(caught.value)
    assert not run.is_published("stage")


def test_a_publication_is_made_once(run: Store) -> None:
    run.write_bytes("stage/a.bin", b"a")
    run.publish("stage", {"n": 1})
    run.publish("stage", {"n": 1})
    with pytest.raises(FencedError, match="published by another driver"):
        run.publish("stage", {"n": 2})
    assert run.manifest("stage")["n"] == 1
    assert run.list("stage") == ["a.bin", "manifest.json"]


def test_it_is_a_users_mistake() -> None:
    assert issubclass(RunBusyError, InputError)
    assert issubclass(FencedError, InputError)
