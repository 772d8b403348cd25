"""`POST /v1/score`: one clip, its score in the answer."""

from __future__ import annotations

from fastapi import APIRouter, Request

from sead_ray.config import ServeConfig
from sead_ray.tokens import Grant
from sead_ray.wire import ScoreAnswer
from serve.answers import score_answer
from serve.auth import Authority, requires
from serve.docs import body_errors, clip_body
from serve.gate import Gate
from serve.guard import GuardedRoute
from serve.idempotency import IdempotencyKey, check_key
from serve.intake_door import IntakeDoor, IntakeWanted
from serve.job_work import score_whole
from serve.models import ModelName, Models
from serve.sources import read_clip
from serve.timing import Split


def score_router(
    models: Models, limits: ServeConfig, authority: Authority, gate: Gate, door: IntakeDoor | None
) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["score"])
    sender = requires(authority, "score")

    @router.post(
        "/v1/score",
        response_model=ScoreAnswer,
        responses=body_errors(404, 409, 504),
        openapi_extra=clip_body("StoredClipIn"),
    )
    async def score(
        request: Request,
        caller: Grant = sender,
        model: ModelName = None,
        intake: IntakeWanted = True,
        idempotency_key: IdempotencyKey = None,
    ) -> ScoreAnswer:
        """Scores one clip: how much the features of its frames shift, and which frames are key frames.

        The images come as parts beside the JSON, or lie in storage that the operator allows. Where the service has an
        intake, the clip joins the pool, once; one whose log belongs to val is refused.
        """
        check_key(idempotency_key)
        keep = door if intake else None
        served, split = await models.pick(model), Split()
        with gate.upload(caller):
            checked = await read_clip(request, served.info.image, limits, split)
        if keep is not None:
            await keep.check(checked.clip_in)
        async with gate.work():
            found = await score_whole(checked, served, limits, split)
            answer = score_answer(found, served, limits.budget, checked.can_bus, split)
        return answer if keep is None else await keep.take(checked, answer, caller, idempotency_key)

    return router
