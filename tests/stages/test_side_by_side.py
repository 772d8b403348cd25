"""Runs at the same time: how many, in which order, what becomes of one that fails, and of all when they are stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray

from sead_ray.errors import InputError
from sead_ray.stages.side_by_side import side_by_side

pytestmark = pytest.mark.usefixtures("ray_cluster")


def work(folder: Path, item: str) -> None:
    """Notes when it began and ended; some items have a fate of their own."""
    with open(folder / "events", "a") as file:
        file.write(f"+{item}\n")
    print(f"{item} at work, RAY_ADDRESS={os.environ['RAY_ADDRESS']}", flush=True)
    if item == "refused":
        raise InputError("No luck.")
    if item == "dead":
        os._exit(7)
    (folder / f"{item}.pid").write_text(str(os.getpid()))
    if item.startswith("endless"):
        time.sleep(600)
    time.sleep(0.5)
    with open(folder / "events", "a") as file:
        file.write(f"-{item}\n")


def run(folder: Path, items: Sequence[str], at_once: int, after: dict[str, str] | None = None) -> dict[str, str]:
    def may_start(item: str, under_way: Sequence[str], waiting: Sequence[str]) -> bool:
        return (after or {}).get(item) not in [*under_way, *waiting]

    return dict(side_by_side(items, partial(work, folder), lambda item: f"{folder}/logs/{item}", may_start, at_once))


def most_at_once(folder: Path) -> int:
    now = most = 0
    for event in (folder / "events").read_text().splitlines():
        now += 1 if event[0] == "+" else -1
        most = max(most, now)
    return most


def test_never_more_than_asked_for_and_each_once(tmp_path: Path) -> None:
    assert run(tmp_path, ["a", "b", "c", "d"], 2) == dict.fromkeys("abcd", "")
    assert most_at_once(tmp_path) == 2
    address = ray.get_runtime_context().gcs_address
    assert (tmp_path / "logs/c").read_text() == f"c at work, RAY_ADDRESS={address}\n"


def test_one_that_waits_for_another_comes_behind_it(tmp_path: Path) -> None:
    run(tmp_path, ["first", "late", "b"], 3, after={"late": "b"})
    events = (tmp_path / "events").read_text().splitlines()
    assert events.index("+late") > events.index("-b")


def test_one_that_fails_or_dies_stops_no_other(tmp_path: Path) -> None:
    found = run(tmp_path, ["refused", "dead", "a"], 2)
    assert found == {"refused": "No luck.", "dead": f"its process ended with code 7, see {tmp_path}/logs/dead", "a": ""}


def test_all_end_with_the_one_who_asked_for_them(tmp_path: Path) -> None:
    items = ["a", "endless-1", "endless-2"]
    running = side_by_side(items, partial(work, tmp_path), lambda item: f"{tmp_path}/{item}.log", lambda *_: True, 3)
    assert next(running) == ("a", "")
    deadline = time.monotonic() + 60
    while len(pids := [int(path.read_text() or 0) for path in tmp_path.glob("endless-*.pid")]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.close()  # as an exception in the loop around it does
    assert not any(psutil.pid_exists(pid) for pid in pids)
