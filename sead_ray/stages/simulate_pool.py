"""Scoring at the size of a fleet: the real stage, from the clips' table to published scores, with a decoder and a model
that return at once. Says how the driver's memory and the throughput go, and what a kill costs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import statistics
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from sead_ray.config import DataConfig, RunConfig, Schema, ScoreConfig
from sead_ray.cpus import usable_cpus
from sead_ray.errors import InputError
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_pipeline import Parts
from sead_ray.stages.driver_samples import EVERY_S, Sampler
from sead_ray.stages.progress import say
from sead_ray.stages.score import score_pool
from sead_ray.stages.stand_ins import MODEL, decode_at_once, decoded_in, model_at_once, write_pool
from sead_ray.storage import Store

ROUND = 1
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
        "cpus": usable_cpus(),
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
    sampler = Sampler(samples, started)
    try:
        score_pool(run, settings, ROUND, MODEL, exclude=set(), parts=STAND_INS, seen=sampler.count)
    finally:
        sampler.stop()


def tenths(drivers: list[list[dict[str, Any]]], clips: int) -> list[dict[str, float]]:
    """Of each tenth of the pool: clips a second, processor time a clip, the driver's and the store's memory at its end.

    A driver's time counts from its first clip on; `drivers`: the samples of each, in order.
    """
    counts, times, spent, steps = [0], [0.0], [0.0], [drivers[0][0]]
    for samples in drivers:
        first_s = next((sample["first_s"] for sample in samples if sample["first_s"] is not None), 0.0)
        before = next((sample for sample in reversed(samples) if not sample["done"]), samples[0])
        offset, offset_s, offset_cpu_s = counts[-1], times[-1], spent[-1]
        for sample in samples:
            if sample["done"]:
                counts.append(min(sample["done"] + offset, clips))
                times.append(sample["at_s"] - first_s + offset_s)
                spent.append(sample["cpu_s"] - before["cpu_s"] + offset_cpu_s)
                steps.append(sample)
    rows = []
    for tenth in range(10):
        low, high = clips * tenth / 10, clips * (tenth + 1) / 10
        seconds, cpu_s = (_at(values, counts, high) - _at(values, counts, low) for values in (times, spent))
        end = steps[min(range(len(counts)), key=lambda k: abs(counts[k] - high))]
        rows.append(
            {
                "clips_per_s": clips / 10 / max(seconds, 1e-9),
                "cpu_ms_per_clip": 1e3 * cpu_s / (clips / 10),
                "driver_mib": end["driver_mib"],
                "store_mib": end["store_mib"],
            }
        )
    return rows


def _at(values: list[float], counts: list[int], count: float) -> float:
    """The value when `count` clips were done, between samples by interpolation."""
    for k in range(1, len(counts)):
        if counts[k] >= count and counts[k] > counts[k - 1]:
            share = (count - counts[k - 1]) / (counts[k] - counts[k - 1])
            return values[k - 1] + max(0.0, share) * (values[k] - values[k - 1])
    return values[-1]


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
    rates, costs = ([tenth[key] for tenth in figures["tenths"]] for key in ("clips_per_s", "cpu_ms_per_clip"))
    lines = [
        f"{figures['clips']:,} clips of {figures['frames_a_clip']} frames, {figures['cpus']} CPUs, "
        f"{figures['clips_per_batch']} clips a batch. Decoder: {figures['decoder']}. Model: {figures['model']}.",
        "",
        "| tenth | clips/s | CPU ms a clip | driver, MiB | object store, MiB |",
        "|---:|---:|---:|---:|---:|",
        *(
            f"| {number} | {tenth['clips_per_s']:.0f} | {tenth['cpu_ms_per_clip']:.2f} | {tenth['driver_mib']:.0f} "
            f"| {tenth['store_mib']:.0f} |"
            for number, tenth in enumerate(figures["tenths"], start=1)
        ),
        "",
        f"{figures['seconds']:.0f} s in all; {statistics.median(rates):.0f} clips/s in the median. "
        f"The last tenth against the first: {rates[-1] / rates[0] - 1:+.0%} clips/s, "
        f"{costs[-1] / costs[0] - 1:+.0%} processor time a clip.",
        f"Driver at most {figures['driver_peak_mib']:.0f} MiB, object store at most "
        f"{figures['object_store_peak_mib']:.0f} MiB, scores {figures['scores_mib']:.0f} MiB.",
    ]
    if restart := figures.get("restart"):
        lines.append(
            f"Killed after {restart['killed_after']:,} clips: {restart['repeated_clips']:,} were decoded twice "
            f"({restart['repeated_s']:.1f} s of work); the new driver had its first clip after "
            f"{restart['first_clip_after_s']:.1f} s, the first one after {restart['of_which_any_start_s']:.1f} s."
        )
    return "\n".join(lines)
