"""Which model scores, and whether the service lives."""

from __future__ import annotations

from fastapi import APIRouter

from sead_ray.wire import ErrorAnswer, Health, ModelInfo, ModelList
from serve.auth import Authority, requires
from serve.docs import errors
from serve.guard import GuardedRoute
from serve.scorer import Scorer


def model_router(scorer: Scorer, authority: Authority) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["model"], dependencies=[requires(authority, "score")])

    @router.get("/v1/model", response_model=ModelInfo, responses=errors(503))
    async def model() -> ModelInfo:
        """The model that scores."""
        return await scorer.info()

    @router.get("/v1/models", response_model=ModelList, responses=errors(503))
    async def models() -> ModelList:
        """All models that are loaded."""
        return ModelList(models=[await scorer.info()])

    return router


def health_router(scorer: Scorer) -> APIRouter:
    """For probes, which have no token; they learn nothing but yes or no."""
    router = APIRouter(route_class=GuardedRoute, tags=["health"])

    @router.get("/healthz", response_model=Health)
    async def healthz() -> Health:
        """ok while the service answers at all: a reason to leave it alone."""
        return Health(status="ok")

    @router.get("/readyz", response_model=Health, responses={503: {"model": ErrorAnswer, "description": "Not yet"}})
    async def readyz() -> Health:
        """ok once the model is loaded: a reason to send it requests."""
        await scorer.info()
        return Health(status="ok")

    return router
