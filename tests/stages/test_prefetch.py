"""Prefetching threads change the time, never the result; progress lines stay few."""

from __future__ import annotations

import re
import threading
import time

import pytest

from sead_ray.errors import InputError
from sead_ray.stages.prefetch import prefetch
from sead_ray.stages.progress import Progress, _span


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 2), (4, 1), (8, 20)])
def test_batches_come_in_order_whatever_the_timing(threads: int, ahead: int) -> None:
    batches = [[3, 1], [2], [], [0, 4, 5], [1, 1]]

    def load(index: int) -> int:
        time.sleep(0.002 * (index % 3))
        return index * index

    expected = [[index * index for index in batch] for batch in batches]
    assert list(prefetch(load, batches, threads, ahead)) == expected


def test_no_batches() -> None:
    assert list(prefetch(lambda index: index, [], threads=2)) == []


def test_at_most_ahead_batches_are_loaded_before_they_are_asked_for() -> None:
    loaded: list[int] = []
    stream = prefetch(lambda index: loaded.append(index), [[index] for index in range(50)], threads=2, ahead=3)
    next(stream)
    time.sleep(0.1)
    assert max(loaded) <= 3
    stream.close()


def test_an_exception_is_raised_where_its_batch_would_have_been() -> None:
    def load(index: int) -> int:
        if index == 2:
            raise InputError("image 2 is damaged.")
        return index

    stream = prefetch(load, [[0], [1], [2], [3]], threads=2)
    assert [next(stream), next(stream)] == [[0], [1]]
    with pytest.raises(InputError, match="image 2"):
        next(stream)


def test_closing_early_ends_the_threads() -> None:
    before = threading.active_count()
    stream = prefetch(lambda index: index, [[index] for index in range(100)], threads=3)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_progress_in_a_log_is_a_line_at_the_start_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("score round 1", 40, "clip", done=10) as progress:
        for _ in range(30):
            progress.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["score round 1: 10/40 clips", "score round 1: 40/40 clips in 0 s"]


def test_progress_says_rate_time_left_and_note(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 4, "step", every_s=0.0) as progress:
        time.sleep(0.5)  # starting is not the pace
        progress.advance(2, "loss 1.700")
        time.sleep(0.02)
        progress.advance(1, "loss 1.500")
    first, second = capsys.readouterr().err.splitlines()[1:3]
    assert first == "train: 2/4 steps, loss 1.700"
    assert re.fullmatch(r"train: 3/4 steps, [\d.]+/s, 0 s left, loss 1.500", second)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (5400, "90 min"), (41_000, "11.4 h")]
)
def test_time_left_in_words(seconds: float, said: str) -> None:
    assert _span(seconds) == said
