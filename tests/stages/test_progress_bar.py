"""Progress as people see it: one bar a stage in a terminal, plain lines in a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import time

import pytest

from sead_ray.stages.progress import Progress

SCRIPT = """
import time
from sead_ray.stages.progress import Progress, say
with Progress("score round 1", 20, "clip", every_s=0.4) as progress:
    for number in range(20):
        time.sleep(0.1)
        progress.advance(note=f"loss {number}")
        if number == 5:
            say("score round 1: clip abc failed: too short")
"""


def in_terminal(width: int) -> str:
    """What the script writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, width))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    written = b""
    try:
        while chunk := os.read(master, 4096):
            written += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_shows_one_calm_bar_with_rate_and_time_left() -> None:
    written = in_terminal(100)
    bars = re.findall(r"score round 1: +\d+%\|[^\r\n]*", written)
    assert any(re.search(r"\d+/20 \[\d+:\d+<\d+:\d+, +[\d.]+clip/s", bar) for bar in bars)
    assert "20/20" in bars[-1]
    assert len(bars) <= 10  # twice a second, not at every clip
    assert all(len(bar) <= 100 for bar in bars)
    assert "score round 1: clip abc failed: too short" in [line.strip() for line in re.split("[\r\n]+", written)]
    staying = [line.rstrip("\r").rpartition("\r")[2] for line in written.split("\n")]
    assert sum(line.startswith("score round 1: 100%") for line in staying) == 1  # one bar stays


def test_a_log_gets_plain_lines() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert lines[0] == "score round 1: 0/20 clips"
    assert re.fullmatch(r"score round 1: \d+/20 clips, [\d.]+/s, \d+ s left, loss \d+", lines[1])
    assert lines[-1].startswith("score round 1: 20/20 clips in ")
    assert len(lines) <= 8
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_a_narrow_terminal_does_not_break_the_bar() -> None:
    width = 50
    bars = re.findall(r"score round 1: +\d+%[^\r\n]*", in_terminal(width))
    assert bars
    assert all(len(bar) <= width for bar in bars)


def test_work_that_was_lost_starts_the_rate_anew(capsys: pytest.CaptureFixture[str]) -> None:
    """A training that goes on from an earlier checkpoint."""
    with Progress("train round 0", 200, "step", every_s=0.0) as progress:
        for step in (60, 61, 8, 9, 10):
            progress.advance(step - progress.done)
            time.sleep(0.01)
    lines = [line.partition("steps")[2] for line in capsys.readouterr().err.splitlines()[1:-1]]
    assert lines[0] == lines[2] == lines[3] == ""
    assert all(re.fullmatch(r", [\d.]+/s, \d+ s left", line) for line in (lines[1], lines[4]))
