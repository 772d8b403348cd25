"""`/v1/sessions`: frames arrive one by one, the running score returns."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from sead_ray.config import ServeConfig
from sead_ray.tokens import Grant
from sead_ray.wire import SessionAnswer, SessionList
from serve.auth import Authority, requires
from serve.docs import body_errors, errors, frame_body, session_body
from serve.gate import Gate
from serve.guard import GuardedRoute
from serve.models import ModelName, Models
from serve.schemas import FrameIn, SessionIn
from serve.session_desk import SessionDesk
from serve.sources import digest_of
from serve.upload import read_json, read_upload
from serve.validate import parse

SessionId = Annotated[str, Path(max_length=64)]


def session_router(models: Models, limits: ServeConfig, authority: Authority, gate: Gate) -> APIRouter:
    router = APIRouter(route_class=GuardedRoute, tags=["sessions"])
    desk = SessionDesk(limits)
    sender, admin = requires(authority, "score"), requires(authority, "admin")

    @router.post(
        "/v1/sessions",
        status_code=201,
        response_model=SessionAnswer,
        responses=body_errors(404),
        openapi_extra=session_body(),
    )
    async def open_session(
        request: Request, response: Response, caller: Grant = sender, model: ModelName = None
    ) -> SessionAnswer:
        """Opens a session for one clip, and for one model: it stays with it whatever is promoted meanwhile."""
        data = await read_json(request, limits)
        asked = parse(SessionIn, data, "body") if data else SessionIn()
        session = await desk.open(caller, await models.pick(model), asked.clip_token or "session")
        response.headers["Location"] = f"/v1/sessions/{session.session_id}"
        return desk.to_answer(session)

    @router.post(
        "/v1/sessions/{session_id}/frames",
        response_model=SessionAnswer,
        responses=body_errors(404, 409, 504),
        openapi_extra=frame_body(),
    )
    async def add_frame(request: Request, session_id: SessionId, caller: Grant = sender) -> SessionAnswer:
        """The clip's next frame; answers with the score of all frames so far. Sent twice, it counts once."""
        session = desk.find(caller, session_id)
        with gate.upload(caller), session.split.part("upload"):
            upload = await read_upload(request, limits, part="frame", max_frames=1)
        async with gate.work():
            frame = parse(FrameIn, upload.texts[0], "frame")
            await desk.add(session, frame, upload.images, digest_of(upload))
        return desk.to_answer(session)

    @router.get("/v1/sessions", response_model=SessionList, responses=errors())
    async def sessions(caller: Grant = admin) -> SessionList:
        """Everybody's open sessions; needs an admin's token."""
        return SessionList(sessions=[desk.to_answer(session) for session in desk.all()])

    @router.get("/v1/sessions/{session_id}", response_model=SessionAnswer, responses=errors(404, 422))
    async def session(session_id: SessionId, caller: Grant = sender) -> SessionAnswer:
        """The score of the frames so far."""
        return desk.to_answer(desk.find(caller, session_id))

    @router.delete("/v1/sessions/{session_id}", response_model=SessionAnswer, responses=errors(404, 422))
    async def close_session(session_id: SessionId, caller: Grant = sender) -> SessionAnswer:
        """Ends the session, with its last score."""
        found = desk.find(caller, session_id)
        desk.close(found)
        return desk.to_answer(found)

    return router
