"""Lines for people, plain by default, as JSON objects for log collectors."""

from __future__ import annotations

import contextvars
import json
import threading
from datetime import datetime
from typing import Any

import pytest

from jobs.cli import run_job
from sead_ray.errors import InputError
from sead_ray.stages.progress import FORMAT_VARIABLE, Progress, about, say


@pytest.fixture
def in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FORMAT_VARIABLE, "json")


def entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def test_plain_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with about(run="s3://bucket/run", round=2):
        say("score round 2: clip a failed: no image", "warning", clip="a")
    assert capsys.readouterr() == ("", "score round 2: clip a failed: no image\n")


@pytest.mark.usefixtures("in_json")
def test_a_json_line_says_run_round_and_clip(capsys: pytest.CaptureFixture[str]) -> None:
    with about(run="s3://bucket/run"), about(round=2):
        say("Größe\nfehlt", "warning", clip="a")
    say("outside")
    inside, outside = entries(capsys)
    assert datetime.fromisoformat(inside.pop("time")).utcoffset() is not None
    expected = {"level": "warning", "message": "Größe\nfehlt", "run": "s3://bucket/run", "round": 2, "clip": "a"}
    assert inside == expected
    assert outside.keys() == {"time", "level", "message"}


@pytest.mark.usefixtures("in_json")
def test_progress_counts_are_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with about(round=0), Progress("score", 4, "clip", done=1) as progress:
        progress.advance(3)
    start, end = entries(capsys)
    assert (start["done"], start["total"], start["unit"], start["round"]) == (1, 4, "clip", 0)
    assert (end["done"], end["message"].partition(" in ")[0]) == (4, "score: 4/4 clips")
    assert end["seconds"] >= 0


@pytest.mark.usefixtures("in_json")
def test_a_thread_with_the_stages_context_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with about(round=1):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(say, "from a thread"))
        thread.start()
        thread.join()
    assert entries(capsys)[0]["round"] == 1


@pytest.mark.usefixtures("in_json")
def test_a_jobs_last_sentence_is_a_json_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    def job(_: Any) -> str:
        raise InputError("Table scene.json is missing.")

    with pytest.raises(SystemExit):
        run_job("A job.", job, lambda _: "", argv=[])
    (entry,) = entries(capsys)
    assert (entry["level"], entry["message"]) == ("error", "Table scene.json is missing.")
