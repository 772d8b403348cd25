"""Which clip was under way when a worker died: one that kills its workers is found, blamed and left out.

Ray repeats a dead worker's task for as long as the worker dies, which a clip that ends it (a crash in native code, more
memory than there is) would make for ever. So every task tells a desk, an actor beside the driver, what it is about to
do and when it is done. Clips that were under way in a worker that died are tried again one at a time; one with which
workers have died often enough, the last time alone, is not tried again. Deaths of whole nodes are nobody's fault.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used, and why, in one sentence."""

    reason: str


Row = tuple[str, Any]  # clip token, item
Work = Callable[[Sequence[Row]], list[Row]]
Turn = Callable[[], AbstractContextManager[Any]]


@dataclass
class Deaths:
    """Of workers that had a clip under way, and what the last one was doing with it."""

    total: int = 0
    alone: int = 0
    step: str = ""


class Desk:
    """What is under way where. `is_alive` says whether a node is."""

    def __init__(self, is_alive: Callable[[str], bool] | None = None) -> None:
        self._under_way: dict[str, tuple[str, str, str, bool]] = {}  # token -> node, worker, step, alone
        self._deaths: dict[str, Deaths] = {}
        self._is_alive = is_alive or _node_is_alive

    def begin(self, node: str, worker: str, step: str, tokens: Sequence[str], alone: bool) -> dict[str, Deaths]:
        """Notes the start; returns the deaths of the clips that have any."""
        for token in tokens:
            before = self._under_way.pop(token, None)
            if before and before[1] != worker and self._is_alive(before[0]):
                deaths = self._deaths.setdefault(token, Deaths())
                deaths.total += 1
                deaths.alone += before[3]
                deaths.step = before[2]
            self._under_way[token] = node, worker, step, alone
        return {token: self._deaths[token] for token in tokens if token in self._deaths}

    def end(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            self._under_way.pop(token, None)


@dataclass(frozen=True)
class Attempts:
    """A worker's way to the desk. Picklable.

    Attributes:
        most: deaths of workers after which a clip is given up.
    """

    desk: Any
    most: int

    def run(self, step: str, rows: Sequence[Row], work: Work, turn: Turn | None = None) -> list[Row]:
        """`work` of all rows, in their order: together, or one at a time where a worker died with one of them.

        Args:
            step: what is done with a clip, for the reason of one that is given up.
            turn: held while a clip runs alone, where this process has more of these under way at a time.
        """
        with self._under_way(step, rows, alone=turn is None and len(rows) == 1) as deaths:
            if not deaths:
                return work(rows)
        return [self._run_alone(step, row, work, turn or nullcontext) for row in rows]

    def each(self, step: str, rows: Sequence[Row], work: Callable[[Any], Any]) -> Iterator[Row]:
        """`work` of one item after another, as they are asked for. The desk is told of all at once: a call for each
        would cost more than some clips do."""
        with self._under_way(step, rows, alone=len(rows) == 1) as deaths:
            if not deaths:
                yield from ((token, work(item)) for token, item in rows)
                return
        for row in rows:
            yield self._run_alone(step, row, lambda rows: [(token, work(item)) for token, item in rows], nullcontext)

    def _run_alone(self, step: str, row: Row, work: Work, turn: Turn) -> Row:
        with turn(), self._under_way(step, [row], alone=True) as deaths:
            died = deaths.get(row[0], Deaths())
            if died.total >= self.most and died.alone:
                times = f"{died.total} times" if died.total > 1 else "once"
                return row[0], Failure(f"The worker process died {times} while it was {died.step} clip {row[0]}.")
            return work([row])[0]

    @contextmanager
    def _under_way(self, step: str, rows: Sequence[Row], alone: bool) -> Generator[dict[str, Deaths], None, None]:
        tokens = [token for token, _ in rows]
        context = ray.get_runtime_context()
        worker = f"{context.get_worker_id()}:{os.getpid()}"
        answer = self.desk.begin.remote(context.get_node_id(), worker, step, tokens, alone)
        try:
            yield ray.get(answer) if _is_repeated() else {}
        finally:  # not reached where the process dies
            self.desk.end.remote(tokens)


@contextmanager
def open_desk(most: int) -> Generator[Attempts]:
    """A desk on the driver's node, or elsewhere where that has none; it ends with the block."""
    near = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    remote: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Desk)
    desk = remote.options(scheduling_strategy=near).remote()
    try:
        yield Attempts(desk, most)
    finally:
        if ray.is_initialized():
            ray.kill(desk)


def _node_is_alive(node: str) -> bool:
    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())


def _is_repeated() -> bool:
    """Whether Ray runs the current task again. A first attempt need not wait for the desk's answer: there is none."""
    try:
        worker: Any = sys.modules["ray._private.worker"]
        return worker.global_worker.core_worker.get_current_task_attempt_number() > 0
    except (AttributeError, KeyError):  # not a public interface
        return True
