"""The HTTP interface, put together. Knows a `Scorer`, and nothing of Ray."""

from __future__ import annotations

from fastapi import FastAPI

from sead_ray.config import ServeConfig
from serve.auth import Authority
from serve.docs import describe
from serve.guard import guard
from serve.job_routes import job_router
from serve.model_routes import health_router, model_router
from serve.score_routes import score_router
from serve.scorer import Scorer
from serve.session_routes import session_router

LOOPBACK = "127.0.0.1"


def build_api(scorer: Scorer, limits: ServeConfig, bound_to: str | None = LOOPBACK) -> FastAPI:
    """The whole application.

    Args:
        bound_to: address that the HTTP server listens on; None: not known, which needs tokens.

    Raises:
        InputError: tokens are needed and there are none.
    """
    authority = Authority(limits, bound_to)
    api = FastAPI(title="sead_ray", description="Feature shift and key frames of driving clips (SEAD)")
    api.include_router(score_router(scorer, limits, authority))
    api.include_router(job_router(scorer, limits, authority))
    api.include_router(session_router(scorer, limits, authority))
    api.include_router(model_router(scorer, authority))
    api.include_router(health_router(scorer))
    guard(api)
    describe(api)
    return api
