"""The HTTP interface, put together. Knows `Models`, and nothing of Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from sead_ray.config import ServeConfig
from serve.auth import Authority
from serve.docs import describe
from serve.gate import Gate
from serve.guard import guard
from serve.intake_door import open_door
from serve.job_routes import job_router
from serve.model_routes import health_router, model_router
from serve.models import Models
from serve.score_routes import score_router
from serve.scorer import BATCH_CLIPS
from serve.session_routes import session_router

LOOPBACK = "127.0.0.1"


def build_api(models: Models, limits: ServeConfig, bound_to: str | None = LOOPBACK, device: str = "cpu") -> FastAPI:
    """The whole application.

    Args:
        bound_to: address that the HTTP server listens on; None: not known, which needs tokens.
        device: of the model; how many requests keep it busy depends on it.

    Raises:
        InputError: tokens are needed and there are none; intake cannot work.
    """
    authority = Authority(limits, bound_to)
    gate = Gate(requests_at_work(limits, device), limits.max_uploads, limits.request_timeout_s)
    api = FastAPI(
        title="sead_ray",
        description="Feature shift and key frames of driving clips (SEAD)",
        lifespan=partial(_lifespan, models),
    )
    door = open_door(limits)
    api.include_router(score_router(models, limits, authority, gate, door))
    api.include_router(job_router(models, limits, authority, door))
    api.include_router(session_router(models, limits, authority, gate))
    api.include_router(model_router(models, authority))
    api.include_router(health_router(models))
    guard(api)
    describe(api)
    return api


def requests_at_work(limits: ServeConfig, device: str) -> int:
    """One batch computes while the next one is decoded and waits."""
    if limits.max_requests is not None:
        return limits.max_requests
    batch = limits.max_batch_clips or BATCH_CLIPS[device.partition(":")[0]]
    return 2 * batch * (limits.max_replicas or limits.replicas)


@asynccontextmanager
async def _lifespan(models: Models, _: FastAPI) -> AsyncIterator[None]:
    await models.start()
    try:
        yield
    finally:
        await models.stop()
