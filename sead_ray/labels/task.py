"""What annotators are asked for: the bought run of frames of a clip, with neighbours for context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.records import Clip, Frame


@dataclass(frozen=True)
class TaskFrame:
    """One frame of a task. `index`: its place in the clip; context is shown to annotators, and not paid for."""

    frame: Frame
    index: int
    is_context: bool

    @property
    def name(self) -> str:
        """Its name in every tool: sorts by time, says what to do with it, holds the sample token."""
        return f"{self.index:04d}_{'context' if self.is_context else 'label'}_{self.frame.token}"


@dataclass(frozen=True)
class LabelTask:
    """The frames of one clip that a round bought, and up to `context` neighbours on either side, in order of time."""

    clip: Clip
    frames: tuple[TaskFrame, ...]

    @property
    def requested(self) -> tuple[TaskFrame, ...]:
        return tuple(item for item in self.frames if not item.is_context)

    @property
    def origin_m(self) -> NDArray[np.float64]:
        """(3,) where the ego stands at the first bought frame. Tools that show points near 0 get global axes from
        here: a parked car keeps its place from frame to frame, so that annotators draw it once."""
        return np.asarray(self.requested[0].frame.global_from_ego.translation_m, np.float64)


def label_task(clip: Clip, bought: Sequence[str], context: int) -> LabelTask:
    """The task of one clip.

    Args:
        bought: tokens of its bought frames.
        context: neighbours on either side of each run of them.

    Raises:
        InputError: a token that is no frame of the clip.
    """
    index_of = {frame.token: index for index, frame in enumerate(clip.frames)}
    if unknown := [token for token in bought if token not in index_of]:
        raise InputError(f"The label request names frame {unknown[0]}, which clip {clip.clip_token} does not have.")
    wanted = {index_of[token] for token in bought}
    shown = {near for index in wanted for near in range(index - context, index + context + 1)}
    return LabelTask(
        clip,
        tuple(
            TaskFrame(frame, index, index not in wanted) for index, frame in enumerate(clip.frames) if index in shown
        ),
    )


def label_tasks(request: Mapping[str, Sequence[str]], clips: Mapping[str, Clip], context: int) -> list[LabelTask]:
    """One task for each clip of a round's label request (frame tokens by clip token), in its order."""
    return [label_task(clips[token], bought, context) for token, bought in request.items() if bought]
