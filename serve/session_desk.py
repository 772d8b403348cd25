"""Sessions: clips whose frames arrive one by one. Held in memory, by one process; a session belongs to its token.

Between frames a session keeps the last BEV, reduced features and poses, no image. It ends when it is closed, or when no
frame came for `session_idle_s`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from sead_ray.config import ServeConfig
from sead_ray.nuscenes.images import image_geometry
from sead_ray.tokens import Grant
from sead_ray.wire import SessionAnswer
from serve.answers import clip_fields
from serve.decode import decode_cameras, to_frame
from serve.errors import ApiError, busy
from serve.image_check import Size, check_references, common_size
from serve.models import Served
from serve.running import RunningClip
from serve.schemas import FrameIn
from serve.timing import Split
from serve.validate import cameras_of, check_order


@dataclass
class Session:
    """
    Attributes:
        size: of every image, once the first frame is there. last_digest: of the last frame's upload.
    """

    session_id: str
    owner: str
    served: Served
    clip: RunningClip
    touched_at: float
    size: Size | None = None
    last_in: FrameIn | None = None
    last_digest: str = ""
    split: Split = field(default_factory=Split)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SessionDesk:
    """All sessions of this process."""

    def __init__(self, limits: ServeConfig) -> None:
        self._limits = limits
        self._sessions: dict[str, Session] = {}

    async def open(self, caller: Grant, served: Served, clip_token: str) -> Session:
        """Raises `ApiError` 429 where `max_sessions` are open."""
        self._forget()
        if len(self._sessions) >= self._limits.max_sessions:
            raise busy(f"{len(self._sessions)} sessions are open; come again later.", 30)
        running = RunningClip(clip_token, served.info.model_version, served.info.score)
        session = Session(secrets.token_urlsafe(16), caller.name, served, running, time.monotonic())
        self._sessions[session.session_id] = session
        return session

    def find(self, caller: Grant, session_id: str) -> Session:
        """The caller's session; anybody's for an admin. 404 is all that others learn."""
        self._forget()
        session = self._sessions.get(session_id)
        if session is None or not caller.may_see(session.owner):
            raise ApiError(404, "There is no such session; one without frames expires.", "session_id")
        return session

    def close(self, session: Session) -> None:
        self._sessions.pop(session.session_id, None)

    def all(self) -> list[Session]:
        self._forget()
        return list(self._sessions.values())

    async def add(self, session: Session, frame_in: FrameIn, images: dict[str, bytes], digest: str) -> None:
        """The next frame. The last one sent again, as after a lost answer, changes nothing.

        Raises:
            ApiError: 422 with the field's path; 409 where the session is full, or its model was replaced.
        """
        async with session.lock:
            session.touched_at = time.monotonic()
            if digest == session.last_digest:
                return
            self._check(session, frame_in)
            cameras = list(cameras_of(frame_in, ""))
            check_references(cameras, images)
            size = common_size(cameras, images, self._limits, session.size)
            frame = to_frame(frame_in, len(session.clip.frames), *size)
            geometry = image_geometry(frame, session.served.info.image)
            if len(cameras) * geometry.padded_height * geometry.width * 3 > self._limits.max_decoded_bytes:
                raise ApiError(422, "The frame's images take more memory than this service decodes.", "cameras")
            image = session.served.info.image
            with session.split.part("decode"):
                pixels = await run_in_threadpool(decode_cameras, cameras, images, geometry, image)
            with session.split.part("model"):
                await session.clip.add(session.served.scorer, frame, pixels, geometry)
            session.size, session.last_in, session.last_digest = size, frame_in, digest

    def to_answer(self, session: Session) -> SessionAnswer:
        n_frames = len(session.clip.frames)
        last = session.last_in
        fields = clip_fields(
            session.clip.score(),
            session.served,
            self._limits.budget,
            "given" if last is not None and last.can is not None else "zeros",
            n_frames,
            session.split,
        )
        status = "waiting" if n_frames < 2 else "ok" if fields["score"] is not None else "failed"
        left_s = session.touched_at + self._limits.session_idle_s - time.monotonic()
        return SessionAnswer(
            **fields,
            session_id=session.session_id,
            status=status,
            n_frames_left=self._limits.max_frames - n_frames,
            expires_in_s=round(max(0.0, left_s), 1),
        )

    def _check(self, session: Session, frame_in: FrameIn) -> None:
        if len(session.clip.frames) >= self._limits.max_frames:
            raise ApiError(409, f"The session has its {self._limits.max_frames} frames; open another.")
        if session.last_in is not None:
            check_order(session.last_in, frame_in, "", f"frame {len(session.clip.frames)}")
            if (session.last_in.can is None) != (frame_in.can is None):
                raise ApiError(422, "Give `can` in every frame or in none.", "can")

    def _forget(self) -> None:
        oldest = time.monotonic() - self._limits.session_idle_s
        for session in [item for item in self._sessions.values() if item.touched_at < oldest]:
            if not session.lock.locked():
                self.close(session)
