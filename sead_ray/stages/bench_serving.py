"""Where the time of one clip goes on its way through the scoring service."""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from typing import Any

import httpx
from pydantic import Field

from sead_ray.benchmark.open_loop import Request
from sead_ray.clip_request import clip_request
from sead_ray.config import ImageConfig, ModelConfig, Schema, ScoreConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.stages.noise_clip import write_noise_clip
from sead_ray.stages.own_service import own_service, random_models
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store
from sead_ray.wire import Seconds

WORK = ("upload", "decode", "model")  # what has to be done; the rest is overhead
WARM_UP = 2
TIMEOUT_S = 600.0


class ServingBenchConfig(Schema):
    """What is measured: clips of noise, one after the other, by the service at `url` or one of its own."""

    url: str = ""
    """Address of a running service; empty: one is started, with a model at random or `model_dir`'s."""
    token: str = ""
    run_dir: str = "runs/bench_serving"
    model_dir: str = ""
    model: ModelConfig = ModelConfig()
    image: ImageConfig = ImageConfig()
    score: ScoreConfig = ScoreConfig()
    frames: int = Field(default=40, ge=2)
    image_width: int = Field(default=1600, ge=32)
    image_height: int = Field(default=900, ge=32)
    repeats: int = Field(default=10, ge=1)
    serve: ServeConfig = ServeConfig()
    """Arguments of the service that differ from its defaults."""


def bench_serving(config: ServingBenchConfig, command: str) -> dict[str, Any]:
    """Seconds of each part, medians over `repeats` clips, and the share that is neither upload, decode nor model."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_noise_clip(folder, "bench", config.frames, config.image_width, config.image_height)
        request = Request(*clip_request(clip, folder))
    if config.url:
        return {**_measure(config.url, request, config), "command": command}
    if config.model_dir:
        args: dict[str, Any] = {"model_dir": Store(config.model_dir).root}
    else:
        run = Store(config.run_dir)
        random_models(run, config.model, config.image, config.score)
        args = {"run_dir": run.root, "follow": "off"}
    with own_service(config.serve.model_copy(update=args)) as url:
        return {**_measure(url, request, config), "command": command}


def _measure(url: str, request: Request, config: ServingBenchConfig) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    rows: list[dict[str, float]] = []
    with (
        httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http,
        Progress("bench serving", WARM_UP + config.repeats, "clip") as progress,
    ):
        info = http.get("/v1/model").json()
        for number in range(WARM_UP + config.repeats):
            row = _send(http, request, f"bench-{number}")
            progress.advance()
            if number >= WARM_UP:
                rows.append(row)
    names = [*Seconds.model_fields, "elsewhere", "whole"]
    seconds = {name: statistics.median(row[name] for row in rows) for name in names}
    overhead = statistics.median(1 - sum(row[name] for name in WORK) / row["whole"] for row in rows)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": _device(),
        "machine": platform.platform(),
        "preset": info.get("preset"),
        "n_frames": config.frames,
        "image": f"{config.image_width}x{config.image_height}",
        "n_clips": len(rows),
        "upload_mb": round(sum(len(data) for _, (_, data, _) in request.files) / 1e6, 1),
        "seconds": {name: round(value, 5) for name, value in seconds.items()},
        "overhead_share": round(overhead, 4),
        "rows": rows,
    }


def _send(http: httpx.Client, request: Request, name: str) -> dict[str, float]:
    """One clip's parts; elsewhere: what the service does not see, client and network."""
    sending = http.build_request("POST", "/v1/score", files=request.parts(name))
    sending.read()  # encoded now: that is not the service's time
    started = time.perf_counter()
    response = http.send(sending)
    whole = time.perf_counter() - started
    if response.status_code != 200:
        raise InputError(f"The service answered {response.status_code}: {response.text[:300]}")
    parts = response.json()["seconds"]
    return {**parts, "elsewhere": whole - sum(parts.values()), "whole": whole}


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
