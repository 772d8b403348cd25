"""Which model scores, and whether the service lives."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from sead_ray.wire import ErrorAnswer, Health, ModelInfo, ModelList
from serve.auth import Authority, requires
from serve.docs import errors
from serve.guard import GuardedRoute
from serve.models import ModelName, Models, Served


def model_router(models: Models, authority: Authority) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["model"])
    sender, admin = [requires(authority, "score")], [requires(authority, "admin")]

    @router.get("/v1/model", response_model=ModelInfo, responses=errors(404, 422, 503), dependencies=sender)
    async def model(model: ModelName = None) -> ModelInfo:
        """The model that scores."""
        return _info(await models.pick(model))

    @router.get("/v1/models", response_model=ModelList, responses=errors(503), dependencies=sender)
    async def all_models() -> ModelList:
        """All models that may be asked for by `?model=`."""
        return ModelList(models=[_info(served) for served in await models.all()])

    @router.post("/v1/models/roll_back", response_model=ModelInfo, responses=errors(409, 503), dependencies=admin)
    async def roll_back() -> ModelInfo:
        """Brings the model before the last promotion back; needs an admin's token."""
        return _info(await models.roll_back())

    @router.post(
        "/v1/models/promote", response_model=ModelInfo, responses=errors(404, 409, 422, 503), dependencies=admin
    )
    async def promote(number: Annotated[int, Query(alias="round", ge=0, lt=10_000)]) -> ModelInfo:
        """Serves the model of a round of the run; needs an admin's token. jobs.promote_model calibrates it besides."""
        return _info(await models.promote(number))

    return router


def _info(served: Served) -> ModelInfo:
    n_clips = 0 if served.calibration is None else len(served.calibration.sums)
    return served.info.model_copy(update={"n_calibration_clips": n_clips})


def health_router(models: Models) -> APIRouter:
    """For probes, which have no token; they learn nothing but yes or no."""
    router = APIRouter(route_class=GuardedRoute, tags=["health"])

    @router.get("/healthz", response_model=Health)
    async def healthz() -> Health:
        """ok while the service answers at all: a reason to leave it alone."""
        return Health(status="ok")

    @router.get("/readyz", response_model=Health, responses={503: {"model": ErrorAnswer, "description": "Not yet"}})
    async def readyz() -> Health:
        """ok once the model is loaded: a reason to send it requests."""
        await models.all()
        return Health(status="ok")

    return router
