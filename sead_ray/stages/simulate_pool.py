"""Scoring at the size of a fleet: the real stage, from the clips' table to published scores, with a decoder and a model
that return at once. Says how the driver's memory and the throughput go, and what a kill costs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import ray
from pydantic import Field

from sead_ray.config import DataConfig, RunConfig, Schema, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Parts
from sead_ray.stages.progress import say
from sead_ray.stages.score import score_pool
from sead_ray.stages.stand_ins import MODEL, decode_at_once, decoded_in, model_at_once, write_pool
from sead_ray.storage import Store

ROUND = 1
EVERY_S = 1.0
STAND_INS = Parts(decode=decode_at_once, model=model_at_once)


class PoolSimulation(Schema):
    """What `jobs.simulate_pool` scores."""

    run_dir: str = "runs/simulated_pool"
    """Local folder for pool and scores (about 1 KB a clip and stage); the pool is kept for the next time."""
    clips: int = Field(default=1_000_000, ge=100)
    frames: int = Field(default=2, ge=2)
    """A clip. Each costs the pipeline its share of geometry and shifts, as real ones do."""
    kill_at: float = Field(default=0.5, ge=0, lt=1)
    """Share of the clips at which the driver is killed (SIGKILL), to go on in a new one; 0: never."""
    score: ScoreConfig = ScoreConfig(clips_per_batch=64)


def simulate_pool(config: PoolSimulation) -> dict[str, Any]:
    """Scores the pool, with a kill on the way; the figures of `describe`.

    Raises:
        InputError: `run_dir` is in a bucket.
    """
    run = Store(config.run_dir)
    if not run.is_local:
        raise InputError("run_dir must be a local folder: the stand-ins count in files there.")
    write_pool(run, config.clips, config.frames)
    for key in (layout.round_folder(ROUND), "decoded"):
        run.remove(key)
    drivers = [_Driver(config, number) for number in range(2 if config.kill_at else 1)]
    if config.kill_at:
        drivers[0].run(kill_at=round(config.kill_at * config.clips))
    drivers[-1].run()
    samples = [driver.samples() for driver in drivers]
    figures = {
        "clips": config.clips,
        "frames_a_clip": config.frames,
        "clips_per_batch": config.score.clips_per_batch,
        "cpus": os.cpu_count(),
        "decoder": "stand-in, returns at once",
        "model": "stand-in, returns at once",
        "driver_peak_mib": max(sample["driver_mib"] for part in samples for sample in part),
        "object_store_peak_mib": max(sample["store_mib"] for part in samples for sample in part),
        "seconds": sum(part[-1]["at_s"] for part in samples),
        "tenths": tenths(samples, config.clips),
        "scores_mib": run.sizes(layout.scores(ROUND))["scores.parquet"] / 2**20,
    }
    if config.kill_at:
        figures["restart"] = _restart(samples, decoded_in(run.path("decoded")) - config.clips)
    _check(run, config)
    return figures


class _Driver:
    """One process that scores, with samples of its own memory in a file."""

    def __init__(self, config: PoolSimulation, number: int) -> None:
        self._config = config
        self._file = Path(Store(config.run_dir).path(f"samples-{number}.jsonl"))

    def run(self, kill_at: int | None = None) -> None:
        """Until it ends, or has finished `kill_at` clips and is killed."""
        self._file.unlink(missing_ok=True)
        process = multiprocessing.get_context("spawn").Process(target=_score, args=(self._config, str(self._file)))
        process.start()
        while process.is_alive():
            process.join(EVERY_S)
            if kill_at is not None and self._file.exists() and self.samples()[-1]["done"] >= kill_at:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                say(f"killed the driver after {self.samples()[-1]['done']} clips")
                return
        if process.exitcode:
            raise RuntimeError(f"the driver ended with exit code {process.exitcode}")

    def samples(self) -> list[dict[str, Any]]:
        lines = self._file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def _score(config: PoolSimulation, samples: str) -> None:
    """The driver: everything as in a run."""
    started = time.monotonic()
    run = Store(config.run_dir)
    settings = RunConfig(run_dir=run.root, data=DataConfig(root=run.path("decoded")), score=config.score)
    sampler = _Sampler(samples, started)
    try:
        score_pool(run, settings, ROUND, MODEL, exclude=set(), parts=STAND_INS, seen=sampler.count)
    finally:
        sampler.stop()


class _Sampler:
    """Writes a line a second: seconds, clips done by this driver, its memory, the object store's."""

    def __init__(self, file: str, started: float) -> None:
        self.done = 0
        self._first_s: float | None = None
        self._file, self._started = file, started
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def count(self, _row: dict[str, Any]) -> None:
        self.done += 1
        if self._first_s is None:
            self._first_s = time.monotonic() - self._started

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(EVERY_S)
            sample = {
                "at_s": round(time.monotonic() - self._started, 2),
                "first_s": self._first_s,
                "done": self.done,
                "driver_mib": resident_mib(),
                "store_mib": store_mib(),
            }
            with open(self._file, "a") as file:
                file.write(json.dumps(sample) + "\n")


def resident_mib() -> float:
    """Memory of this process that is its own: without what it shares with the object store."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return (int(fields["RssAnon"].split()[0]) + int(fields["RssFile"].split()[0])) / 1024


def store_mib() -> float:
    """In use in the object store of this node."""
    if not ray.is_initialized():
        return 0.0
    # Ray tells it nobody else without its dashboard.
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    stats = get_memory_info_reply(get_state_from_address(address)).store_stats
    return stats.object_store_bytes_used / 2**20


def tenths(drivers: list[list[dict[str, Any]]], clips: int) -> list[dict[str, float]]:
    """Of each tenth of the pool: clips a second, and the driver's and the store's memory at its end.

    A driver's time counts from its first clip on; `drivers`: the samples of each, in order.
    """
    moments, offset_s, offset = [], 0.0, 0
    for samples in drivers:
        first_s = next((sample["first_s"] for sample in samples if sample["first_s"] is not None), 0.0)
        steps = [sample for sample in samples if sample["done"]]
        moments += [(sample["at_s"] - first_s + offset_s, sample["done"] + offset, sample) for sample in steps]
        if moments:
            offset_s, offset = moments[-1][0], moments[-1][1]
    times = [0.0, *(moment[0] for moment in moments)]
    counts = [0, *(min(moment[1], clips) for moment in moments)]
    rows = []
    for tenth in range(10):
        low, high = (_when(times, counts, clips * (tenth + k) / 10) for k in (0, 1))
        at = min(moments, key=lambda moment: abs(moment[0] - high))[2]
        rate = clips / 10 / max(high - low, 1e-9)
        rows.append({"clips_per_s": rate, "driver_mib": at["driver_mib"], "store_mib": at["store_mib"]})
    return rows


def _when(times: list[float], counts: list[int], count: float) -> float:
    """The moment of the `count`th clip, between samples by interpolation."""
    for k in range(1, len(counts)):
        if counts[k] >= count and counts[k] > counts[k - 1]:
            share = (count - counts[k - 1]) / (counts[k] - counts[k - 1])
            return times[k - 1] + max(0.0, share) * (times[k] - times[k - 1])
    return times[-1]


def _restart(samples: list[list[dict[str, Any]]], repeated: int) -> dict[str, float]:
    """What the kill cost: clips decoded twice, at the rate of the first driver, and the time to the first clip."""
    first, second = samples
    rate = first[-1]["done"] / max(first[-1]["at_s"] - first[-1]["first_s"], 1e-9)
    return {
        "killed_after": first[-1]["done"],
        "repeated_clips": repeated,
        "repeated_s": repeated / rate,
        "first_clip_after_s": second[-1]["first_s"],
        "of_which_any_start_s": first[-1]["first_s"],
    }


def _check(run: Store, config: PoolSimulation) -> None:
    """Every clip once, in order.

    Raises:
        RuntimeError: one is lost or doubled.
    """
    before, n = "", 0
    for batch in run.iter_batches(layout.scores_file(ROUND), SCORE_SCHEMA, ["clip_token"]):
        for token in batch.column("clip_token").to_pylist():
            if token <= before:
                raise RuntimeError(f"clip {token} is out of order in {run.path(layout.scores_file(ROUND))}")
            before, n = token, n + 1
    if n != config.clips or run.manifest(layout.scores(ROUND))["n_failed"]:
        raise RuntimeError(f"{n} of {config.clips} clips were scored, some of them failed")


def describe(figures: dict[str, Any]) -> str:
    """The figures as a table for people."""
    rates = [tenth["clips_per_s"] for tenth in figures["tenths"]]
    lines = [
        f"{figures['clips']:,} clips of {figures['frames_a_clip']} frames, {figures['cpus']} CPUs, "
        f"{figures['clips_per_batch']} clips a batch. Decoder: {figures['decoder']}. Model: {figures['model']}.",
        "",
        "| tenth | clips/s | driver, MiB | object store, MiB |",
        "|---:|---:|---:|---:|",
        *(
            f"| {number} | {tenth['clips_per_s']:.0f} | {tenth['driver_mib']:.0f} | {tenth['store_mib']:.0f} |"
            for number, tenth in enumerate(figures["tenths"], start=1)
        ),
        "",
        f"{figures['seconds']:.0f} s in all; {statistics.median(rates):.0f} clips/s in the median, the last tenth "
        f"{rates[-1] / rates[0] - 1:+.0%} against the first; driver at most {figures['driver_peak_mib']:.0f} MiB, "
        f"object store at most {figures['object_store_peak_mib']:.0f} MiB; scores {figures['scores_mib']:.0f} MiB.",
    ]
    if restart := figures.get("restart"):
        lines.append(
            f"Killed after {restart['killed_after']:,} clips: {restart['repeated_clips']:,} were decoded twice "
            f"({restart['repeated_s']:.1f} s of work); the new driver had its first clip after "
            f"{restart['first_clip_after_s']:.1f} s, the first one after {restart['of_which_any_start_s']:.1f} s."
        )
    return "\n".join(lines)
