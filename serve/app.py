"""The service on Ray Serve: `serve run serve.app:build run_dir=runs/demo`, or `serve deploy serve/config.yaml`.

Two deployments. `Ingress` (CPU) validates and decodes, and says which model a request gets; `Model` holds models, on a
GPU where there is one. They scale apart, and a hostile image can only hurt the one without the model.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import click
import numpy as np
import ray
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import ValidationError
from ray import serve
from ray.exceptions import ObjectStoreFullError, OutOfDiskError, RayActorError, RayTaskError
from ray.serve.config import AutoscalingConfig, BackpressureConfig
from ray.serve.context import _get_global_client
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from torch import Tensor

from sead_ray.config import ServeConfig
from sead_ray.config.complaint import complaint
from sead_ray.errors import InputError
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.cluster import device_for, gpus_each
from sead_ray.stages.frame_step import FrameInput, FrameStep
from sead_ray.wire import ModelInfo
from serve.api import build_api, requests_at_work
from serve.errors import ApiError, busy
from serve.model_desk import ModelDesk
from serve.scorer import BATCH_CLIPS, ModelRef, Scored, Scorer, find_model, ref_of
from serve.shelf import Shelf

LOADING_S = 600.0
AT_INGRESS = 256  # more than its gate admits, which answers in our own words
BUSY = BackpressureConfig(status_code=429, retry_after_s=5)
log = logging.getLogger("ray.serve.sead_ray")
Keep = Callable[[NDArray[np.uint8]], Any]
MODELS_BESIDE = 2  # beside those of `compare`: the present one, and the one before or the one to come


def build(arguments: dict[str, Any]) -> serve.Application:
    """The application. What is wrong with its arguments, or the model, is said here in a sentence.

    Args:
        arguments: the keys of `ServeConfig`; one of a section may be written `intake.enabled`.

    Raises:
        click.ClickException: which the serve command prints without a trace.
    """
    try:
        args = read_arguments(arguments)
        find_model(args)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    gpus = _gpus(args.gpus_per_replica)
    device = device_for(gpus)
    at_work = requests_at_work(args, device)
    batch = args.max_batch_clips or BATCH_CLIPS[device]
    model = Model.options(
        **_replicas(args, batch),
        max_ongoing_requests=2 * batch,
        max_queued_requests=at_work + args.max_sessions,
        ray_actor_options={"num_cpus": args.cpus_per_replica, "num_gpus": gpus},
    ).bind(args.model_dump(), device)
    ingress = Ingress.options(ray_actor_options={"num_cpus": args.ingress_cpus})
    return ingress.bind(model, args.model_dump(), device)


def read_arguments(arguments: dict[str, Any]) -> ServeConfig:
    """Raises `InputError` where they are not those of a `ServeConfig`; names the key."""
    nested: dict[str, Any] = {}
    for name, value in arguments.items():
        *sections, key = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise InputError(f"{section} is given twice: as a whole, and by {name}.")
        if key in place:
            raise InputError(f"{name} is given twice: as a whole, and key by key.")
        place[key] = dict(value) if isinstance(value, dict) else value
    try:
        return ServeConfig.model_validate(nested)
    except ValidationError as error:
        raise InputError(complaint(error)) from None


def _replicas(args: ServeConfig, batch: int) -> dict[str, Any]:
    if args.max_replicas is None:
        return {"num_replicas": args.replicas}
    scaling = AutoscalingConfig(
        min_replicas=args.replicas,
        initial_replicas=max(1, args.replicas),
        max_replicas=args.max_replicas,
        target_ongoing_requests=batch,
        downscale_delay_s=args.downscale_delay_s,
        downscale_to_zero_delay_s=args.downscale_delay_s,
    )
    return {"num_replicas": None, "autoscaling_config": scaling}


@serve.deployment(health_check_period_s=15, health_check_timeout_s=60, backpressure_config=BUSY)
class Model:
    """One replica: the models that it was asked for lately."""

    async def __init__(self, config: dict, device: str) -> None:
        """Takes no request before its model is loaded and warm."""
        args = ServeConfig(**config)
        keep = MODELS_BESIDE + len(args.compare)
        self._shelf = Shelf(device, keep, args.max_batch_clips, args.batch_wait_s)
        try:
            await self._shelf.get(ref_of(find_model(args)))
        except InputError as error:  # one that was promoted by mistake; the service goes on with another
            log.error("A replica starts without a model: %s", error)

    async def try_out(self, ref: ModelRef, beside: ModelRef | None) -> ModelInfo:
        return await self._shelf.try_out(ref, beside)

    async def score(self, ref: ModelRef, light: LoadedClip, *frames: NDArray[np.uint8]) -> Scored:
        """The clip's images come as arguments of their own: Ray has them ready as views of the object store."""
        return await (await self._shelf.get(ref)).score(light.with_images(frames))

    async def step(self, ref: ModelRef, given: FrameInput, history: Tensor | None) -> FrameStep:
        return await (await self._shelf.get(ref)).step(given, history)

    async def check_health(self) -> None:
        """Serve replaces a replica whose model no longer runs."""
        await self._shelf.check()


def into_store(frame: NDArray[np.uint8]) -> Any:
    """Puts a frame into Ray's object store while others are decoded; the clip then travels as references."""
    try:
        return ray.put(frame)
    except (ObjectStoreFullError, OutOfDiskError):
        raise busy("There is no memory left for the clip's images; try again later.") from None


class RemoteScorer:
    """A model of the `Model` deployment as a `Scorer`. `keep`: as of `RemoteHost`."""

    def __init__(self, handle: DeploymentHandle, ref: ModelRef, info: ModelInfo, keep: Keep) -> None:
        self._handle, self._ref, self._info, self.keep = handle, ref, info, keep

    async def info(self) -> ModelInfo:
        return self._info

    async def score(self, loaded: LoadedClip) -> Scored:
        frames = tuple(loaded.images)
        light = loaded.without_cameras().with_images(())
        return await _answer(self._handle.score.remote(self._ref, light, *frames))

    async def step(self, given: FrameInput, history: Tensor | None) -> FrameStep:
        return await _answer(self._handle.step.remote(self._ref, given, history))


class RemoteHost:
    """The `Model` deployment as a `Host` of models.

    Args:
        keep: where a decoded frame waits for its clip; what it returns is handed to the replica.
    """

    def __init__(self, handle: DeploymentHandle, keep: Keep = into_store) -> None:
        self._handle, self._keep = handle, keep

    async def try_out(self, ref: ModelRef, beside: ModelRef | None) -> ModelInfo:
        """On every replica there is; one that comes later loads the model with the first request for it."""
        info = await _answer(self._handle.try_out.remote(ref, beside))  # wakes one, where there is none
        everywhere = self._handle.broadcast("try_out", ref, beside)
        await _answer(asyncio.to_thread(everywhere.results, timeout_s=LOADING_S))
        return info

    def bind(self, ref: ModelRef, info: ModelInfo) -> Scorer:
        return RemoteScorer(self._handle, ref, info, self._keep)


async def _answer(response: Awaitable[Any]) -> Any:
    """What a replica answers, or the error that a client is told. Where nobody waits any more, neither does it."""
    try:
        return await response
    except asyncio.CancelledError:
        if isinstance(response, DeploymentResponse):
            response.cancel()
        raise
    except BackPressureError:
        raise busy("The service is busy; try again later.") from None
    except (DeploymentUnavailableError, ReplicaUnavailableError, RayActorError, RequestCancelledError, TimeoutError):
        raise ApiError(503, "The model is restarting; try again later.") from None
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise InputError(str(error.cause)) from None
        raise


@serve.deployment(max_ongoing_requests=AT_INGRESS, max_queued_requests=AT_INGRESS, backpressure_config=BUSY)
@serve.ingress()
class Ingress:
    """HTTP, validation, decoding. One replica: it holds the jobs and the sessions, and switches models."""

    def __init__(self, model: DeploymentHandle, config: dict, device: str) -> None:
        self._config, self._device = ServeConfig(**config), device
        self._models = ModelDesk(RemoteHost(model), self._config)
        self._bound_to = _http_host()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._models, self._config, self._bound_to, self._device)


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
