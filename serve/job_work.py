"""What scoring one clip of a job is: decoded at once where it fits, else frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from sead_ray.config import ServeConfig
from sead_ray.wire import ScoreAnswer
from serve.answers import score_answer
from serve.decode import CheckedClip, decode_cameras, decode_clip
from serve.job_desk import Work
from serve.running import RunningClip
from serve.scorer import Scorer
from serve.validate import cameras_of


def clip_work(load: Callable[[], CheckedClip], scorer: Scorer, limits: ServeConfig) -> Work:
    """`load` runs in a thread, and may raise `ApiError`."""

    async def work(progress: Callable[[int], None]) -> ScoreAnswer:
        checked = await run_in_threadpool(load)
        progress(0)
        if checked.decoded_bytes > limits.max_decoded_bytes:
            return await score_stepwise(checked, scorer, progress)
        return await score_whole(checked, scorer, limits)

    return work


async def score_whole(checked: CheckedClip, scorer: Scorer, limits: ServeConfig) -> ScoreAnswer:
    info = await scorer.info()
    started = time.perf_counter()
    decoded = await run_in_threadpool(decode_clip, checked, info.image, limits)
    decode_s = time.perf_counter() - started
    scored = await scorer.score(decoded.loaded)
    return score_answer(scored.score, info, checked.can_bus, len(checked.clip.frames), decode_s, scored.seconds)


async def score_stepwise(checked: CheckedClip, scorer: Scorer, progress: Callable[[int], None]) -> ScoreAnswer:
    """Holds the pixels of one frame at a time, whatever the clip's length."""
    info = await scorer.info()
    running = RunningClip(checked.clip.clip_token, info.model_version, info.score)
    decode_s = model_s = 0.0
    for index, frame_in in enumerate(checked.clip_in.frames):
        started = time.perf_counter()
        cameras = list(cameras_of(frame_in, f"{checked.root}frames.{index}."))
        pixels = await run_in_threadpool(decode_cameras, cameras, checked.images, checked.geometry, info.image)
        decoded = time.perf_counter()
        await running.add(scorer, checked.clip.frames[index], pixels, checked.geometry)
        decode_s, model_s = decode_s + decoded - started, model_s + time.perf_counter() - decoded
        progress(index + 1)
    return score_answer(running.score(), info, checked.can_bus, len(running.frames), decode_s, model_s)
