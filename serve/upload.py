"""A multipart body to its parts, within limits that hold while it is read."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from sead_ray.records import CAMERAS
from serve.errors import ApiError

MAX_CLIP_BYTES = 16 * 2**20  # JSON of one clip; 80 frames take half a MiB


@dataclass(frozen=True)
class Upload:
    """The parts of a request: the clip's JSON, and JPEG bytes by file name."""

    clip: bytes
    images: dict[str, bytes]


async def read_upload(request: Request, max_body_bytes: int, max_frames: int) -> Upload:
    """Raises `ApiError`: 413 for a body over the limit, by its header or as it is read; 422 for one of other parts."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body_bytes:
        raise _too_large(max_body_bytes)
    # Twice the images of a full clip: one that is too long is told so by its frames, not by its parts.
    max_files = 2 * len(CAMERAS) * max_frames + 1
    limited = Request(request.scope, _limit(request, max_body_bytes))
    try:
        form = await limited.form(max_files=max_files, max_fields=8, max_part_size=MAX_CLIP_BYTES)
    except HTTPException as error:  # Starlette's word for a body that is not multipart
        raise ApiError(422, f"The multipart body cannot be read: {str(error.detail).rstrip('.')}.", "body") from None
    try:
        return await _parts(form)
    finally:
        await form.close()


def _limit(request: Request, max_body_bytes: int) -> Receive:
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_body_bytes:
            raise _too_large(max_body_bytes)
        return message

    return receive


def _too_large(max_body_bytes: int) -> ApiError:
    return ApiError(413, f"The request body is larger than {max_body_bytes} bytes, the limit of this service.", "body")


async def _parts(form: FormData) -> Upload:
    clips: list[bytes] = []
    images: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name == "clip":
            clips.append(await _clip_bytes(value))
        elif name == "images":
            if not isinstance(value, UploadFile) or not value.filename:
                raise ApiError(422, "Every images part needs a file name, by which a camera refers to it.", "images")
            if value.filename in images:
                raise ApiError(422, f"Two images parts have the file name {value.filename!r}.", "images")
            images[value.filename] = await value.read()
        else:
            raise ApiError(422, f"Unknown part {name!r}: a request has one clip part and images parts.", name[:200])
    if len(clips) != 1:
        raise ApiError(422, f"A multipart/form-data request needs one clip part, but has {len(clips)}.", "clip")
    return Upload(clips[0], images)


async def _clip_bytes(value: UploadFile | str) -> bytes:
    """The JSON, sent as a field or as a file (curl -F clip=@clip.json)."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    data = await value.read(MAX_CLIP_BYTES + 1)
    if len(data) > MAX_CLIP_BYTES:
        raise ApiError(422, f"The clip part is larger than {MAX_CLIP_BYTES} bytes.", "clip")
    return data
