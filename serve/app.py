"""The service on Ray Serve: `serve run serve.app:build run_dir=runs/demo`, or `serve deploy serve/config.yaml`.

Two deployments. `Ingress` (CPU) validates and decodes; `Model` holds the model, on a GPU where there is one. They
scale apart, and a hostile image can only hurt the one without the model.
"""
# No `from __future__ import annotations`: Serve types a builder's arguments by its annotation, which must be a class.

import asyncio
from collections.abc import Awaitable
from typing import Any

import click
import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.context import _get_global_client
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle
from torch import Tensor

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.cluster import device_for, gpus_each
from sead_ray.stages.frame_step import FrameInput, FrameStep
from sead_ray.wire import ModelInfo
from serve.api import build_api
from serve.errors import ApiError, busy
from serve.scorer import LocalScorer, Scored, find_model

QUEUE_PER_REPLICA = 4  # clips that wait decoded; each is some 100 MB
STARTUP_ANSWER_S = 5.0


def build(args: ServeConfig) -> serve.Application:
    """The application. The model is picked here, so that all replicas, later ones too, serve the same."""
    try:
        model_dir = find_model(args)
    except InputError as error:  # the serve command prints this one as a sentence, without a trace
        raise click.ClickException(str(error)) from None
    gpus = _gpus(args.gpus_per_replica)
    model = Model.options(
        num_replicas=args.replicas,
        ray_actor_options={"num_cpus": args.cpus_per_replica, "num_gpus": gpus},
    ).bind(model_dir, device_for(gpus))
    ingress = Ingress.options(ray_actor_options={"num_cpus": args.ingress_cpus})
    return ingress.bind(model, args.model_dump())


@serve.deployment(max_ongoing_requests=QUEUE_PER_REPLICA, max_queued_requests=2 * QUEUE_PER_REPLICA)
class Model:
    """One replica of the model."""

    def __init__(self, model_dir: str, device: str) -> None:
        self._scorer = LocalScorer(model_dir, device)

    async def info(self) -> ModelInfo:
        return await self._scorer.info()

    async def score(self, loaded: LoadedClip) -> Scored:
        return await self._scorer.score(loaded)

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        return await self._scorer.step(given, history)


class RemoteScorer:
    """The `Model` deployment as a `Scorer`. Its info is kept: the model of an application does not change."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._info: ModelInfo | None = None

    async def info(self) -> ModelInfo:
        info = self._info
        if info is None:
            info = await self._call(asyncio.wait_for(self._handle.info.remote(), STARTUP_ANSWER_S))
            self._info = info
        return info

    async def score(self, loaded: LoadedClip) -> Scored:
        return await self._call(self._handle.score.remote(loaded))

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        return await self._call(self._handle.step.remote(given, history))

    async def _call(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except TimeoutError:
            raise ApiError(503, "The model is not loaded yet.") from None
        except BackPressureError:
            raise busy("The service is busy; try again later.") from None
        except (DeploymentUnavailableError, ReplicaUnavailableError, RayActorError):
            raise ApiError(503, "The model is restarting; try again later.") from None


@serve.deployment(max_ongoing_requests=2 * QUEUE_PER_REPLICA, max_queued_requests=4 * QUEUE_PER_REPLICA)
@serve.ingress()
class Ingress:
    """HTTP, validation, decoding. One replica: it holds the jobs and the sessions."""

    def __init__(self, model: DeploymentHandle, limits: dict) -> None:
        self._scorer = RemoteScorer(model)
        self._limits = ServeConfig(**limits)
        self._bound_to = _http_host()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._scorer, self._limits, self._bound_to)


def _http_host() -> str | None:
    """The address that Serve's proxies listen on; None where it cannot be found out, so that tokens are required."""
    try:
        return _get_global_client().http_config.host
    except Exception:  # no public call tells it
        return None


def _gpus(requested: float | None) -> float:
    """As asked; else one where the cluster has any, or this machine, while `serve run` has not joined a cluster."""
    if requested is None and not ray.is_initialized():
        import torch

        return 1.0 if torch.cuda.is_available() else 0.0
    return gpus_each(requested)
