"""One driver a run folder, and no lock that outlives its holder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sead_ray.errors import InputError, RunBusyError
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store

REPOSITORY = Path(__file__).parents[2]
HOLDER = """
import sys
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store
with driver_lock(Store(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_by_another_process(run: Store) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, run.root]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


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


def test_other_folders_are_free_and_buckets_have_no_lock(run: Store) -> None:
    with driver_lock(run), driver_lock(run.below("other")), driver_lock(Store("s3://bucket/run")):
        pass


def test_it_is_a_users_mistake() -> None:
    assert issubclass(RunBusyError, InputError)
