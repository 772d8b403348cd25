"""Every failure of a request as one error body: an id that the log has too, a sentence, a field. Never a trace."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sead_ray.stages import serve_metrics
from sead_ray.wire import ErrorAnswer
from serve.errors import ApiError

log = logging.getLogger("ray.serve.sead_ray")  # below Ray Serve's own, so that it lands in the replica's log
FAULT = "The service failed; its log says more under this error_id."


class GuardedRoute(APIRoute):
    """Turns every exception of a route into an error body; counts answers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            started = time.perf_counter()
            response = await guarded(request)
            serve_metrics.count("sead_serve_requests_total", route=self.path, status=response.status_code)
            serve_metrics.observe("sead_serve_request_seconds", time.perf_counter() - started, route=self.path)
            return response

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except ApiError as error:
                return error_response(error)
            except ClientDisconnect:
                return error_response(ApiError(400, "The client went away while it was sending."))
            except RequestValidationError as error:  # FastAPI's own answer repeats the input, and fails on NaN
                first = error.errors()[0]
                field = str(first["loc"][-1])[:200]
                return error_response(ApiError(422, f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}.", field))
            except HTTPException:
                raise
            except Exception:
                return error_response(ApiError(500, FAULT), trace=True)

        return answered


def guard(api: FastAPI) -> None:
    """The same error body for paths and methods that do not exist."""

    @api.exception_handler(HTTPException)
    async def _http_error(_: Request, error: HTTPException) -> Response:
        return error_response(ApiError(error.status_code, f"{error.detail}.", headers=error.headers))


def error_answer(error: ApiError, trace: bool = False) -> ErrorAnswer:
    """The body, once it is in the log. What the client sent is in neither, but for names that it chose."""
    error_id = uuid.uuid4().hex[:12]
    level = logging.ERROR if error.status >= 500 else logging.INFO
    log.log(
        level, "error_id=%s status=%d field=%r %r", error_id, error.status, error.field, error.detail, exc_info=trace
    )
    return ErrorAnswer(error_id=error_id, detail=_text(error.detail), field=error.field and _text(error.field))


def error_response(error: ApiError, trace: bool = False) -> JSONResponse:
    return JSONResponse(error_answer(error, trace).model_dump(), error.status, headers=error.headers)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()
