"""`POST /v1/score`: one clip, its score in the answer."""

from __future__ import annotations

from fastapi import APIRouter, Request

from sead_ray.config import ServeConfig
from sead_ray.wire import ScoreAnswer
from serve.answers import score_answer
from serve.auth import Authority, requires
from serve.docs import body_errors, clip_body
from serve.gate import Gate
from serve.guard import GuardedRoute
from serve.job_work import score_whole
from serve.models import ModelName, Models
from serve.sources import read_clip
from serve.timing import Split


def score_router(models: Models, limits: ServeConfig, authority: Authority, gate: Gate) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["score"], dependencies=[requires(authority, "score")])

    @router.post(
        "/v1/score",
        response_model=ScoreAnswer,
        responses=body_errors(404, 504),
        openapi_extra=clip_body("StoredClipIn"),
    )
    async def score(request: Request, model: ModelName = None) -> ScoreAnswer:
        """Scores one clip: how much the features of its frames shift, and which frames are key frames.

        The images come as parts beside the JSON, or lie in storage that the operator allows.
        """
        served, split = await models.pick(model), Split()
        with gate.upload():
            checked = await read_clip(request, served.info.image, limits, split)
        async with gate.work():
            found = await score_whole(checked, served, limits, split)
            return score_answer(found, served, limits.budget, checked.can_bus, split)

    return router
