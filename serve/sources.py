"""A request's body to clips whose sizes are checked, sent as multipart or named in storage as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from sead_ray.config import ImageConfig, ServeConfig
from sead_ray.storage import Store
from serve.decode import CheckedClip, check_images
from serve.errors import ApiError
from serve.image_check import check_references
from serve.schemas import CameraIn, ClipIn, StoredClipIn, StoredClipsIn
from serve.storage_keys import allowed_store, check_key, read_images
from serve.timing import Split
from serve.upload import MAX_PARTS, Upload, is_json, read_json, read_upload
from serve.validate import check_clip, clip_cameras, parse, parse_clip


@dataclass(frozen=True)
class ClipSource:
    """A clip, and how to get at its images: `load` runs in a thread and may raise `ApiError`. `root` stands before its
    field paths."""

    clip_in: ClipIn
    load: Callable[[], CheckedClip]
    root: str = ""


@dataclass(frozen=True)
class Batch:
    """The clips of a job; `n_bytes` of them are in memory, `digest` is that of the request."""

    clips: list[ClipSource]
    n_bytes: int
    digest: str


async def read_clip(request: Request, image: ImageConfig, limits: ServeConfig, split: Split) -> CheckedClip:
    """The one clip of `POST /v1/score`. Raises `ApiError`."""
    if is_json(request):
        with split.part("upload"):
            stored = parse(StoredClipIn, await read_json(request, limits), "clip")
            check_clip(stored, limits.max_frames)
            return await run_in_threadpool(_stored(stored, image, limits, "").load)
    with split.part("upload"):
        upload = await read_upload(request, limits)
    with split.part("validation"):
        return await run_in_threadpool(_uploaded_clip, upload, image, limits)


async def read_batch(request: Request, image: ImageConfig, limits: ServeConfig) -> Batch:
    """The clips of a job. All of them are checked first; those in storage are fetched when their turn comes."""
    if is_json(request):
        data = await read_json(request, limits)
        return await run_in_threadpool(_stored_batch, data, image, limits)
    upload = await read_upload(request, limits, max_frames=limits.max_job_frames, max_texts=MAX_PARTS)
    return await run_in_threadpool(_uploaded_batch, upload, image, limits)


def digest_of(upload: Upload) -> str:
    digest = hashlib.sha256()
    for part in (*upload.texts, *(item for pair in sorted(upload.images.items()) for item in pair)):
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _uploaded_clip(upload: Upload, image: ImageConfig, limits: ServeConfig) -> CheckedClip:
    clip_in = parse_clip(upload.texts[0], limits.max_frames)
    check_references(clip_cameras(clip_in.frames), upload.images)
    return check_images(clip_in, upload.images, image, limits, to_end=False)


def _uploaded_batch(upload: Upload, image: ImageConfig, limits: ServeConfig) -> Batch:
    clips = [parse(ClipIn, text, "clip") for text in upload.texts]
    roots = _roots(clips)
    for clip, root in zip(clips, roots):
        check_clip(clip, limits.max_job_frames, root)
    _check_total(clips, limits)
    named = [pair for clip, root in zip(clips, roots) for pair in clip_cameras(clip.frames, root)]
    check_references(named, upload.images)
    sources = []
    for clip, root in zip(clips, roots):
        mine = {camera.image: upload.images[camera.image] for camera, _ in clip_cameras(clip.frames)}
        check_images(clip, mine, image, limits, root)
        sources.append(ClipSource(clip, partial(check_images, clip, mine, image, limits, root), root))
    return Batch(sources, upload.n_bytes, digest_of(upload))


def _stored_batch(data: bytes, image: ImageConfig, limits: ServeConfig) -> Batch:
    clips = parse(StoredClipsIn, data, "clips").clips
    _check_total(clips, limits)
    sources = []
    for index, clip in enumerate(clips):
        root = f"clips.{index}."
        check_clip(clip, limits.max_job_frames, root)
        sources.append(_stored(clip, image, limits, root))
    return Batch(sources, len(data), hashlib.sha256(data).hexdigest())


def _stored(clip: StoredClipIn, image: ImageConfig, limits: ServeConfig, root: str) -> ClipSource:
    store = allowed_store(clip.storage, limits)
    cameras = clip_cameras(clip.frames, root)
    for camera, field in cameras:
        check_key(camera.image, f"{field}.image")
    return ClipSource(clip, partial(_fetch, clip, store, cameras, image, limits, root), root)


def _fetch(
    clip: ClipIn,
    store: Store,
    cameras: Sequence[tuple[CameraIn, str]],
    image: ImageConfig,
    limits: ServeConfig,
    root: str,
) -> CheckedClip:
    named = [(camera.image, f"{field}.image") for camera, field in cameras]
    images: Mapping[str, bytes] = read_images(store, named, limits.max_image_bytes, limits.max_body_bytes)
    check_references(cameras, images)
    return check_images(clip, images, image, limits, root)


def _roots(clips: Sequence[ClipIn]) -> list[str]:
    """What stands before the field paths of each clip: nothing where there is one."""
    return [""] if len(clips) == 1 else [f"clips.{index}." for index in range(len(clips))]


def _check_total(clips: Sequence[ClipIn], limits: ServeConfig) -> None:
    total = sum(len(clip.frames) for clip in clips)
    if total > limits.max_job_frames:
        raise ApiError(
            422, f"The job has {total} frames; this service takes {limits.max_job_frames} at most.", "frames"
        )
