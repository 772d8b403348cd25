"""`POST /v1/score`: one clip, its score in the answer."""

from __future__ import annotations

from fastapi import APIRouter, Request

from sead_ray.config import ServeConfig
from sead_ray.wire import ScoreAnswer
from serve.auth import Authority, requires
from serve.docs import body_errors, clip_body
from serve.guard import GuardedRoute
from serve.job_work import score_whole
from serve.scorer import Scorer
from serve.sources import read_clip


def score_router(scorer: Scorer, limits: ServeConfig, authority: Authority) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["score"], dependencies=[requires(authority, "score")])

    @router.post(
        "/v1/score", response_model=ScoreAnswer, responses=body_errors(), openapi_extra=clip_body("StoredClipIn")
    )
    async def score(request: Request) -> ScoreAnswer:
        """Scores one clip: how much the features of its frames shift, and which frames are key frames.

        The images come as parts beside the JSON, or lie in storage that the operator allows.
        """
        info = await scorer.info()
        return await score_whole(await read_clip(request, info.image, limits), scorer, limits)

    return router
