"""What scoring one clip of a job is: decoded at once where it fits, else frame by frame."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from starlette.concurrency import run_in_threadpool

from sead_ray.config import ServeConfig
from sead_ray.records import ClipScore
from sead_ray.wire import ScoreAnswer
from serve.answers import score_answer
from serve.decode import CheckedClip, decode_cameras, decode_clip
from serve.job_desk import Work
from serve.models import Served
from serve.running import RunningClip
from serve.timing import Split
from serve.validate import cameras_of

Keep = Callable[[CheckedClip, ScoreAnswer], Awaitable[ScoreAnswer]]


def clip_work(load: Callable[[], CheckedClip], served: Served, limits: ServeConfig, keep: Keep | None = None) -> Work:
    """
    Args:
        load: runs in a thread, and may raise `ApiError`.
        keep: what is done with a clip once it is scored.
    """

    async def work(progress: Callable[[int], None]) -> ScoreAnswer:
        split = Split()
        with split.part("upload"):
            checked = await run_in_threadpool(load)
        progress(0)
        if checked.decoded_bytes > limits.max_decoded_bytes:
            score = await score_stepwise(checked, served, split, progress)
        else:
            score = await score_whole(checked, served, limits, split)
        answer = score_answer(score, served, limits.budget, checked.can_bus, split)
        return answer if keep is None else await keep(checked, answer)

    return work


async def score_whole(checked: CheckedClip, served: Served, limits: ServeConfig, split: Split) -> ClipScore:
    with split.part("decode"):
        decoded = await run_in_threadpool(decode_clip, checked, served.info.image, limits, served.scorer.keep)
    there = Split()
    with there.part("queue"):
        scored = await served.scorer.score(decoded.loaded)
    split.add("model", scored.seconds)
    split.add("shift", scored.shift_s)
    split.add("queue", there.seconds().queue - scored.seconds - scored.shift_s)
    return scored.score


async def score_stepwise(
    checked: CheckedClip, served: Served, split: Split, progress: Callable[[int], None]
) -> ClipScore:
    """Holds the pixels of one frame at a time, whatever the clip's length."""
    image = served.info.image
    running = RunningClip(checked.clip.clip_token, served.info.model_version, served.info.score)
    for index, frame_in in enumerate(checked.clip_in.frames):
        cameras = list(cameras_of(frame_in, f"{checked.root}frames.{index}."))
        decode = partial(decode_cameras, cameras, checked.images, checked.geometry, image)
        with split.part("decode"):
            pixels = await run_in_threadpool(decode)
        with split.part("model"):
            await running.add(served.scorer, checked.clip.frames[index], pixels, checked.geometry)
        progress(index + 1)
    with split.part("shift"):
        return running.score()
