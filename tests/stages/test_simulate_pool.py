"""The real scoring stage over a simulated pool: a decoder and a model that return at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import DataConfig, RunConfig, ScoreConfig
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import clip_source, layout
from sead_ray.stages.clip_source import ClipSource, clips_a_task
from sead_ray.stages.driver_samples import CpuTime
from sead_ray.stages.score import pool_tokens, score_pool
from sead_ray.stages.simulate_pool import ROUND, STAND_INS, PoolSimulation, describe, simulate_pool, tenths
from sead_ray.stages.stand_ins import MODEL, VERSION, decoded_in, write_pool
from sead_ray.storage import Store

CLIPS = 600


def score(run: Store, seen: Any = lambda _: None) -> None:
    config = ScoreConfig(clips_per_batch=32, no_progress_timeout_s=240)
    settings = RunConfig(run_dir=run.root, data=DataConfig(root=run.path("decoded")), score=config)
    score_pool(run, settings, ROUND, MODEL, exclude=set(), parts=STAND_INS, seen=seen)


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_scoring_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = (Store(str(tmp_path / name)) for name in ("whole", "broken"))
    for run in (whole, broken):
        write_pool(run, CLIPS, frames=2)
    score(whole)
    assert decoded_in(whole.path("decoded")) == CLIPS
    done = 0

    def until_half(_row: dict[str, Any]) -> None:
        nonlocal done
        done += 1
        if done == CLIPS // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(broken, until_half)
    assert not broken.is_published(layout.scores(ROUND))
    score(broken)
    assert CLIPS <= decoded_in(broken.path("decoded")) < 1.9 * CLIPS
    file = layout.scores_file(ROUND)
    assert broken.read_bytes(file) == whole.read_bytes(file)
    rows = list(whole.iter_rows(file, SCORE_SCHEMA, ["clip_token", "status", "model_version", "shift_sum"]))
    assert [row["clip_token"] for row in rows] == sorted(pool_tokens(whole).to_pylist())
    assert {(row["status"], row["model_version"]) for row in rows} == {("ok", VERSION)}
    assert len({round(row["shift_sum"], 6) for row in rows}) > 10  # each clip has a score of its own
    assert not whole.exists(layout.score_parts(ROUND))


def test_every_clip_is_in_one_share_and_read_from_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Store(str(tmp_path))
    write_pool(run, 700, frames=2)
    tokens = pool_tokens(run).to_pylist()
    source = ClipSource.of(run)
    shares = source.shares(tokens[::3], 10)
    assert max(len(rows) for rows in shares.column("rows").to_pylist()) == 10
    places = source.places(shares)
    assert [token for token, _ in places] == tokens[::3]
    assert all(source.read(place).clip_token == token for token, place in places)
    assert len(source.shares([], 10)) == 0
    monkeypatch.setattr(clip_source, "TASKS_A_DECODER", 4)
    assert [clips_a_task(n, 2) for n in (1, 15, 80, 10**6)] == [1, 1, 10, clip_source.MAX_CLIPS_A_TASK]


def test_a_file_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    for clips in (5, 9):
        write_pool(run, clips, frames=2)
        source = ClipSource.of(run)
        assert len(source.places(source.shares(pool_tokens(run), 4))) == clips


def test_tenths_count_from_each_drivers_first_clip() -> None:
    """Two drivers of 50 clips a second; the second one starts for 60 s before it has a clip."""

    def samples(first_s: float, clips: int) -> list[dict[str, Any]]:
        return [
            {
                "at_s": first_s + k,
                "first_s": first_s,
                "done": 50 * k,
                "driver_mib": 1.0,
                "store_mib": 2.0,
                "cpu_s": 9.0 + k / 10,
            }
            for k in range(clips // 50 + 1)
        ]

    rows = tenths([samples(5.0, 500), samples(60.0, 500)], 1000)
    assert [row["clips_per_s"] for row in rows] == pytest.approx([50.0] * 10)
    assert [row["cpu_ms_per_clip"] for row in rows] == pytest.approx([2.0] * 10)
    figures: dict[str, Any] = {
        "clips": 1000,
        "frames_a_clip": 2,
        "clips_per_batch": 64,
        "cpus": 2,
        "decoder": "d",
        "model": "m",
        "driver_peak_mib": 1.0,
        "object_store_peak_mib": 2.0,
        "seconds": 20.0,
        "scores_mib": 1.0,
        "tenths": rows,
    }
    text = describe(figures)
    assert "50 clips/s in the median. The last tenth against the first: +0% clips/s, +0% processor time a clip." in text


def test_processor_time_counts_what_a_process_started_also_when_it_is_gone() -> None:
    """The process below ends without being waited for, as Ray's workers do."""
    child = "sum(i * i for i in range(4_000_000)); print(flush=True); input()"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        below, with_us = CpuTime(process.pid), CpuTime(os.getpid())
        spent_s = below.total_s()
        assert with_us.total_s() > spent_s > 0.1
        process.communicate(b"\n\n")
    assert below.total_s() == pytest.approx(spent_s, abs=0.05)


def test_a_bucket_is_refused() -> None:
    from sead_ray.errors import InputError

    with pytest.raises(InputError, match="local folder"):
        simulate_pool(PoolSimulation(run_dir="s3://bucket/run"))
