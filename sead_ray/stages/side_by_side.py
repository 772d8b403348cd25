"""Several runs at the same time: a process each, on the Ray of the one that starts them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import ray

from sead_ray.errors import InputError
from sead_ray.stages.cluster import connect

T = TypeVar("T")
STOPPING_S = 60.0  # for a run that is interrupted to end its training


def side_by_side(
    items: Sequence[T],
    work: Callable[[T], None],
    log: Callable[[T], str],
    may_start: Callable[[T, Sequence[T], Sequence[T]], bool],
    at_once: int,
) -> Iterator[tuple[T, str]]:
    """Each item with why `work` could not be done for it, empty where it was, as they end.

    An interruption reaches all of them, and they have ended before it goes on from here.

    Args:
        work: called in a process of its own, as the driver of a run.
        log: the local file for what the item's process prints.
        may_start: whether an item can begin while these others are under way, and those wait, itself among them. Asked
            in the items' order; where nothing is under way one of them must.
    """
    connect()
    address = ray.get_runtime_context().gcs_address
    waiting, under_way = list(items), dict[T, tuple[BaseProcess, Connection]]()
    try:
        while waiting or under_way:
            for item in list(waiting):
                if len(under_way) < at_once and may_start(item, list(under_way), waiting):
                    waiting.remove(item)
                    under_way[item] = _started(work, item, log(item), address)
            if not under_way:
                raise AssertionError(f"nothing may start of {waiting}")
            wait([process.sentinel for process, _ in under_way.values()])
            for item, (process, answer) in list(under_way.items()):
                if not process.is_alive():
                    del under_way[item]
                    yield item, _why(process, answer, log(item))
    finally:
        for process, _ in under_way.values():
            process.terminate()
        for process, _ in under_way.values():
            process.join(STOPPING_S)
            process.kill()


def _started(work: Callable[[T], None], item: T, log: str, address: str) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    answer, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_drive, args=(work, item, log, address, theirs), name=str(item))
    process.start()
    theirs.close()
    return process, answer


def _why(process: BaseProcess, answer: Connection, log: str) -> str:
    process.join()
    try:
        return answer.recv()
    except EOFError:
        return f"its process ended with code {process.exitcode}, see {log}"
    finally:
        answer.close()


def _drive(work: Callable[[Any], None], item: Any, log: str, address: str, answer: Connection) -> None:
    """The process of one item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the one who started this one decides
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ["RAY_ADDRESS"] = address
    try:
        work(item)
        answer.send("")
    except InputError as error:
        answer.send(str(error))
    except KeyboardInterrupt:
        answer.send("interrupted")


def _interrupt(_signum: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A parent that was killed can end nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
