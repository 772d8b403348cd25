"""Scored clips on their way into the pool."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Annotated

from fastapi import Query
from starlette.concurrency import run_in_threadpool

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError
from sead_ray.stages import serve_metrics
from sead_ray.stages.intake import Intake, Refused
from sead_ray.storage import Store
from sead_ray.tokens import Grant
from sead_ray.wire import ScoreAnswer
from serve.decode import CheckedClip
from serve.errors import ApiError
from serve.schemas import ClipIn

IntakeWanted = Annotated[bool, Query(description="false: score only, keep nothing")]


class IntakeDoor:
    """One at a time, so that the same clip sent twice at once is stored once."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._turn = asyncio.Lock()

    async def check(self, sent: ClipIn, root: str = "") -> None:
        """Before the clip is scored: `ApiError` 422 where it belongs to val. `root` stands before the field's path."""
        try:
            await run_in_threadpool(self._intake.check, sent.clip_token, sent.log_token or "")
        except Refused as refused:
            raise ApiError(422, refused.sentence, root + refused.field) from None

    async def take(self, checked: CheckedClip, answer: ScoreAnswer, caller: Grant, key: str | None) -> ScoreAnswer:
        """The answer, with what became of the clip. Raises `ApiError` 409: its token or its key is another's."""
        return answer.model_copy(update={"intake": await self._outcome(checked, answer, caller, key)})

    async def _outcome(self, checked: CheckedClip, answer: ScoreAnswer, caller: Grant, key: str | None) -> str:
        if answer.status != "ok":
            return "not_scored"
        if not checked.clip_in.log_token:
            return "no_log"
        sender = None if key is None else f"{caller.name}\n{key}"
        async with self._turn:
            try:
                outcome = await run_in_threadpool(self._take, checked, answer, sender)
            except Refused as refused:
                raise ApiError(409, refused.sentence, refused.field) from None
        serve_metrics.count("sead_serve_intake_total", outcome=outcome)
        return outcome

    def _take(self, checked: CheckedClip, answer: ScoreAnswer, key: str | None) -> str:
        named = checked.clip_in.clip_token is not None
        score = answer.model_dump(mode="json")
        return self._intake.take(checked.clip, checked.images, digest_of(checked), named, key, score)


def digest_of(checked: CheckedClip) -> str:
    """Of the frames and their images, whatever these and the clip are called."""
    frames = [frame.model_dump(mode="json") for frame in checked.clip_in.frames]
    for frame in frames:
        for camera in frame["cameras"].values():
            camera["image"] = hashlib.sha256(checked.images[camera["image"]]).hexdigest()
    return hashlib.sha256(json.dumps(frames).encode()).hexdigest()[:32]


def open_door(config: ServeConfig) -> IntakeDoor | None:
    """None where there is no intake. Raises `InputError` where it cannot work."""
    if not config.intake.enabled:
        return None
    if config.run_dir is None:
        raise InputError("intake.enabled needs run_dir: the run whose pool the clips join.")
    return IntakeDoor(Intake(Store(config.run_dir), config.intake.prefix))
