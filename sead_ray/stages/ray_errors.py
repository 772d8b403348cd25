"""Ray's errors in our words."""

from __future__ import annotations

import re

import ray.exceptions

from sead_ray.errors import InputError, StorageError

_FULL = re.compile(r"(?:ObjectStoreFullError|OutOfDiskError): (.+)")  # behind the traceback of the task
_TOLD = re.compile(r"^sead_ray\.errors\.(\w+Error): (.+)$", re.MULTILINE)


def raise_as_told(error: BaseException) -> None:
    """A task's InputError comes wrapped in Ray's; the user wants the sentence."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)):
            said = (_FULL.findall(str(cause)) or str(cause).splitlines() or [""])[-1].rstrip(".")
            raise StorageError(
                f"Ray's object store is full, and so is the disk that it spills to ({said}): give the nodes more of "
                "either, or lower score.clips_per_batch and score.max_decoders."
            ) from None
        cause = getattr(cause, "cause", None) or cause.__cause__
    # What a task raised does not survive Ray Data's wrapping but in the text of its traceback.
    if told := _TOLD.findall(str(error)):
        name, sentence = told[-1]
        raise (StorageError if name == "StorageError" else InputError)(sentence) from None
