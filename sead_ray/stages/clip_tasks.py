"""The CPU tasks of the pipeline: clips to decoded images before the model, its results to rows behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cv2
import pyarrow as pa

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError, StorageError
from sead_ray.records import Clip
from sead_ray.stages.attempts import Attempts, Failure
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.clip_source import ClipSource
from sead_ray.stages.transport import pack, unpack

# What is made of a batch's results: (clip token, result or Failure) of each clip -> one small row each.
ClipFinish = Callable[[Sequence[tuple[str, Any]]], list[dict[str, Any]]]


def decode_clips(
    shares: pa.Table,
    clips: ClipSource,
    data_root: str,
    image: ImageConfig,
    read: Callable[[Clip, str, ImageConfig], LoadedClip],
    attempts: Attempts,
) -> Iterator[pa.Table]:
    """Clip by clip, so that a block of the object store holds one where clips are large."""
    cv2.setNumThreads(1)  # a decoder has one core; OpenCV would take all of them for each resize
    load = partial(load_or_fail, read=read, data_root=data_root, image=image, most=attempts.most)
    for row in attempts.each("decoding", clips.places(shares), lambda place: load(clips.read(place))):
        yield pack([row])


def load_or_fail(
    clip: Clip, read: Callable[..., LoadedClip], data_root: str, image: ImageConfig, most: int
) -> LoadedClip | Failure:
    """Tried `most` times: a file that a bucket did not give now it may give in a moment.

    Raises:
        StorageError: the bucket gives nothing at all; that is no clip's fault.
    """
    complaint = ""
    for attempt in range(most):
        try:
            return read(clip, data_root, image).without_cameras()
        except StorageError:
            if attempt == most - 1:
                raise
        except InputError as error:
            complaint = str(error)
    return Failure(complaint)


def finish_clips(table: pa.Table, finish: ClipFinish, attempts: Attempts) -> pa.Table:
    """A clip that `finish` fails on, or with which its process dies, comes to it again as a `Failure`."""
    done: list[dict[str, Any]] = []

    def finished(rows: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
        made = finished_or_failed(rows, finish, attempts.most)
        done.extend(made)
        return [(token, None) for token, _ in rows]

    given_up = [row for row in attempts.run("judging", unpack(table), finished) if isinstance(row[1], Failure)]
    return pa.Table.from_pylist([*done, *(finish(given_up) if given_up else [])])


def finished_or_failed(rows: Sequence[tuple[str, Any]], finish: ClipFinish, most: int) -> list[dict[str, Any]]:
    for attempt in range(most):
        try:
            return finish(rows)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            if len(rows) > 1:
                return [made for row in rows for made in finished_or_failed([row], finish, most)]
            if attempt == most - 1:
                reason = " ".join(str(error).split())
                return finish([(rows[0][0], Failure(f"Clip {rows[0][0]} cannot be judged: {reason}."))])
    raise AssertionError("unreachable")
