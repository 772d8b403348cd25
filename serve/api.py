"""The HTTP interface: routes, answers and errors. Knows a `Scorer`, and nothing of Ray."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sead_ray.config import ServeConfig
from serve.decode import Decoded, decode_upload
from serve.errors import ApiError
from serve.schemas import ErrorAnswer, Health, KeyFrames, ModelInfo, ScoreAnswer, Seconds
from serve.scorer import Scored, Scorer
from serve.upload import read_upload

log = logging.getLogger("ray.serve.sead_ray")  # below Ray Serve's own, so that it lands in the replica's log

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["clip", "images"],
                    "properties": {
                        "clip": {"type": "string", "description": "JSON of one clip, see serve/schemas.py: ClipIn"},
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            }
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in ((413, "Body too large"), (422, "Bad request"), (500, "Fault"), (503, "Busy or starting"))
}


def build_api(scorer: Scorer, limits: ServeConfig) -> FastAPI:
    """The whole application: the router, and the same error body for paths that do not exist."""
    api = FastAPI(title="sead_ray", description="Feature shift and key frames of driving clips (SEAD)")
    api.include_router(build_router(scorer, limits))

    @api.exception_handler(HTTPException)
    async def _http_error(_: Request, error: HTTPException) -> Response:
        return _error_response(ApiError(error.status_code, f"{error.detail}."), error.headers)

    return api


def build_router(scorer: Scorer, limits: ServeConfig) -> APIRouter:
    """`POST /v1/score`, `GET /v1/model`, `GET /healthz`."""
    router = APIRouter(route_class=_GuardedRoute)

    @router.post("/v1/score", response_model=ScoreAnswer, responses=_ERRORS, openapi_extra=_FORM)
    async def score(request: Request) -> ScoreAnswer:
        """Scores one clip: how much the features of its frames shift, and which frames are key frames."""
        info = await scorer.info()
        upload = await read_upload(request, limits.max_body_bytes, limits.max_frames)
        started = time.perf_counter()
        decoded = await run_in_threadpool(decode_upload, upload, info.image, limits)
        decode_s = time.perf_counter() - started
        return answer(await scorer.score(decoded.loaded), decoded, info, decode_s)

    @router.get("/v1/model", response_model=ModelInfo, responses={503: _ERRORS[503]})
    async def model() -> ModelInfo:
        """The model that scores."""
        return await scorer.info()

    @router.get("/healthz", response_model=Health, responses={503: _ERRORS[503]})
    async def healthz() -> Health:
        """ok once the model is loaded."""
        await scorer.info()
        return Health(status="ok")

    return router


def answer(scored: Scored, decoded: Decoded, info: ModelInfo, decode_s: float) -> ScoreAnswer:
    """A score as the client gets it; JSON has no infinity, so that nobody near is null."""
    score = scored.score
    ok = score.status == "ok"
    ranked = score.shift_mean if info.score.rank_by == "mean" else score.shift_sum
    return ScoreAnswer(
        status="ok" if ok else "failed",
        reason=score.reason,
        clip_token=score.clip_token,
        model_version=score.model_version,
        score=ranked if ok else None,
        rank_by=info.score.rank_by,
        shift_agents=score.shift_agents,
        shift_map=score.shift_map,
        min_distance_m=[value if math.isfinite(value) else None for value in score.min_distance_m],
        is_key=score.is_key,
        key_frames=KeyFrames(start=score.key_start, length=score.key_length),
        n_frames=len(decoded.loaded.clip.frames),
        can_bus=decoded.can_bus,
        seconds=Seconds(decode=round(decode_s, 4), model=round(scored.seconds, 4)),
    )


class _GuardedRoute(APIRoute):
    """Turns every exception of a route into an error body. A client never sees a trace."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except ApiError as error:
                return _error_response(error)
            except ClientDisconnect:
                return _error_response(ApiError(400, "The client went away while it was sending."))
            except HTTPException:
                raise
            except Exception:
                fault = ApiError(500, "The service failed; its log says more under this error_id.")
                return _error_response(fault, trace=True)

        return guarded


def _error_response(error: ApiError, headers: Any = None, trace: bool = False) -> JSONResponse:
    error_id = uuid.uuid4().hex[:12]
    level = logging.ERROR if error.status >= 500 else logging.INFO
    log.log(
        level, "error_id=%s status=%d field=%r %r", error_id, error.status, error.field, error.detail, exc_info=trace
    )
    body = ErrorAnswer(error_id=error_id, detail=error.detail, field=error.field)
    return JSONResponse(body.model_dump(), error.status, headers=headers)
