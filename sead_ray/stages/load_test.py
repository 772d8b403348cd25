"""The scoring service under load: at, below and far above what it can do; and while replicas die and models change."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import Field

from sead_ray.benchmark.open_loop import Load, Outcome, Request, summary
from sead_ray.clip_request import clip_request
from sead_ray.config import ImageConfig, ModelConfig, Schema, ScoreConfig, ServeConfig
from sead_ray.stages import layout
from sead_ray.stages.noise_clip import write_noise_clip
from sead_ray.stages.own_service import kill_replica, own_service, random_models
from sead_ray.stages.progress import say
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store

ADMITTED = 4  # a replica: two batches of two clips, what a service on a CPU admits
TRIES = 12  # of a request while replicas die: some minutes
FAULT_LOAD = 0.5  # of the capacity, while things break
SMALL = {"bev_h": 20, "bev_w": 10, "agent_queries": 20, "map_instances": 10, "embed_dims": 32, "ffn_dims": 64}


class LoadTestConfig(Schema):
    """What is sent, and for how long. The service is one of its own, with models at random."""

    run_dir: str = "runs/load_test"
    model: ModelConfig = ModelConfig(preset="vad_nano", overrides=SMALL)
    image: ImageConfig = ImageConfig(width=160)
    frames: int = Field(default=12, ge=2)
    image_width: int = Field(default=160, ge=32)
    image_height: int = Field(default=90, ge=32)
    capacity_s: float = Field(default=20.0, gt=0)
    """For so long the capacity is measured: as many requests at a time as the service admits."""
    low: float = Field(default=0.8, gt=0)
    low_s: float = Field(default=120.0, gt=0)
    high: float = Field(default=3.0, gt=0)
    high_s: float = Field(default=180.0, gt=0)
    faults: bool = True
    """Then, at half the capacity: kill a replica of the model three times, switch the model, roll back."""
    fault_s: float = Field(default=20.0, gt=0)
    """Between two faults."""
    fault_replicas: int = Field(default=2, ge=1)
    """Of the model while things break: of two, one goes on while the other is dead."""
    serve: ServeConfig = ServeConfig()
    """Arguments of the service that differ from its defaults."""
    seed: int = 0


def load_test(config: LoadTestConfig, command: str) -> dict[str, Any]:
    """Runs all phases; the figures say what was sent, answered, refused and lost in each."""
    run = Store(config.run_dir)
    run.remove(layout.SERVING)
    score = ScoreConfig(precision="auto")
    random_models(run, config.model, config.image, score, n=2)
    Registry(run).promote(layout.model(0))
    request = _request(config)
    serve = config.serve.model_copy(update={"run_dir": run.root, "follow_s": 0.5})
    with own_service(serve) as url:
        result = _rates(url, request, config)
    if config.faults:
        with own_service(serve.model_copy(update={"replicas": config.fault_replicas})) as url:
            rate = FAULT_LOAD * result["capacity_per_s"]
            result["faults"] = asyncio.run(_faults(url, request, config, rate, Registry(run)))
    return {"command": command, "date": time.strftime("%Y-%m-%d"), **result}


def _rates(url: str, request: Request, config: LoadTestConfig) -> dict[str, Any]:
    at_once = config.serve.max_requests or ADMITTED * config.serve.replicas
    say(f"capacity: {at_once} requests at a time for {config.capacity_s:g} s")
    asyncio.run(Load(url, request).closed(1, min(5.0, config.capacity_s)))  # everything is warm then
    capacity = asyncio.run(Load(url, request).closed(at_once, config.capacity_s))
    result: dict[str, Any] = {"capacity_per_s": round(capacity, 3)}
    for name, factor, seconds in (("low", config.low, config.low_s), ("high", config.high, config.high_s)):
        say(f"{name}: {factor:g} x {capacity:.2f} requests a second for {seconds:g} s")
        load = Load(url, request)
        asyncio.run(load.at_rate(factor * capacity, seconds, config.seed))
        result[name] = {"factor": factor, "seconds": seconds, **summary(load)}
    low, high = (result[name]["answered_s"].get("p99") for name in ("low", "high"))
    result["p99_ratio"] = round(high / low, 3) if low and high else None
    return result


async def _faults(
    url: str, request: Request, config: LoadTestConfig, per_s: float, registry: Registry
) -> dict[str, Any]:
    """Constant load, with the retries of the client, through every fault."""

    def kill() -> None:
        kill_replica("Model")

    def promote() -> None:
        registry.promote(layout.model(1))

    def roll_back() -> None:
        registry.roll_back()

    faults: list[tuple[str, Callable[[], None]]] = [
        ("kill a replica", kill),
        ("kill it again", kill),
        ("and again", kill),
        ("switch the model", promote),
        ("roll back", roll_back),
    ]
    load = Load(url, request, tries=TRIES)
    seconds = config.fault_s * (len(faults) + 1)
    say(f"faults: {per_s:.2f} requests a second for {seconds:g} s")
    sending = asyncio.create_task(load.at_rate(per_s, seconds, config.seed + 1))
    times: dict[str, float] = {}
    started = time.perf_counter()
    for name, fault in faults:
        await asyncio.sleep(config.fault_s)
        times[name] = round(time.perf_counter() - started, 1)
        say(f"faults: {name}")
        await asyncio.to_thread(fault)
    await sending
    return {
        "per_s": round(per_s, 3),
        "faults_at_s": times,
        **summary(load),
        "failed_first_while_models_changed": _failed_after(load.outcomes, times["switch the model"]),
        "scores_of_each_model": _spread(load.outcomes),
    }


def _failed_after(outcomes: list[Outcome], at_s: float) -> int:
    """Requests that got another refusal than 429 before their answer."""
    return sum(any(status != 429 for status in item.before) for item in outcomes if item.started_s >= at_s)


def _spread(outcomes: list[Outcome]) -> dict[str, list[float]]:
    """Least and largest score of the one clip by each model: they are the same where no answer mixes two."""
    scores: dict[str, list[float]] = {}
    for item in outcomes:
        if item.score is not None:
            scores.setdefault(item.model_version, []).append(item.score)
    return {version: [min(values), max(values)] for version, values in scores.items()}


def _request(config: LoadTestConfig) -> Request:
    with tempfile.TemporaryDirectory() as folder:
        clip = write_noise_clip(folder, "load", config.frames, config.image_width, config.image_height)
        body, files = clip_request(replace(clip, dynamics_source="pose"), folder)
    return Request(body, files)
