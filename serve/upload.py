"""A request's body to JSON texts and images, within limits that hold while it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from sead_ray.config import ServeConfig
from sead_ray.records import CAMERAS
from serve.errors import ApiError

MAX_JSON_BYTES = 16 * 2**20  # one clip of 80 frames takes half a MiB
MAX_PARTS = 1000  # of JSON, where a body may have several


@dataclass(frozen=True)
class Upload:
    """The parts of a request: JSON texts, and JPEG bytes by file name."""

    texts: list[bytes]
    images: dict[str, bytes]

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.texts)) + sum(map(len, self.images.values()))


def is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


async def read_json(request: Request, limits: ServeConfig) -> bytes:
    """The body of a request in JSON. Raises `ApiError`: 408, 413, 415."""
    most = min(limits.max_body_bytes, MAX_JSON_BYTES)
    limited = _limited(request, most)
    async with _in_time(limits):
        return await limited.body()


async def read_upload(
    request: Request, limits: ServeConfig, part: str = "clip", max_frames: int | None = None, max_texts: int = 1
) -> Upload:
    """The parts of a multipart body: JSON named `part`, and `images`.

    Raises:
        ApiError: 413 for a body over the limit, by its header or as it is read; 408 for one that does not end; 415
            for a compressed one; 422 for one of other parts.
    """
    limited = _limited(request, limits.max_body_bytes)
    # Twice the images of a full clip: one that is too long is told so by its frames, not by its parts.
    max_files = 2 * len(CAMERAS) * (max_frames or limits.max_frames) + max_texts
    try:
        async with _in_time(limits):
            form = await limited.form(max_files=max_files, max_fields=max_texts + 7, max_part_size=MAX_JSON_BYTES)
    except HTTPException as error:  # Starlette's word for a body that is not multipart
        detail = str(error.detail).rstrip(".")[:200]
        raise ApiError(422, f"The multipart body cannot be read: {detail}.", "body") from None
    try:
        return await _parts(form, part, max_texts, limits.max_image_bytes)
    finally:
        await form.close()


def _limited(request: Request, max_bytes: int) -> Request:
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "Bodies are taken uncompressed only.", "body")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise _too_large(max_bytes)
    return Request(request.scope, _limit(request, max_bytes))


def _limit(request: Request, max_bytes: int) -> Receive:
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return receive


def _too_large(max_bytes: int) -> ApiError:
    return ApiError(413, f"The request body is larger than {max_bytes} bytes, the limit of this service.", "body")


@asynccontextmanager
async def _in_time(limits: ServeConfig) -> AsyncIterator[None]:
    """Turns a body that takes too long into 408."""
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            yield
    except TimeoutError:
        raise ApiError(408, f"The body took longer than {limits.body_timeout_s:g} s to arrive.", "body") from None


async def _parts(form: FormData, part: str, max_texts: int, max_image_bytes: int) -> Upload:
    texts: list[bytes] = []
    images: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name == part:
            texts.append(await _text(value, part))
        elif name == "images":
            file_name, data = await _image(value, max_image_bytes)
            if file_name in images:
                raise ApiError(422, f"Two images parts have the file name {file_name!r}.", "images")
            images[file_name] = data
        else:
            raise ApiError(422, f"Unknown part {name[:200]!r}: a request has {part} and images parts.", name[:200])
    if not 1 <= len(texts) <= max_texts:
        wanted = f"one {part} part" if max_texts == 1 else f"1 to {max_texts} {part} parts"
        raise ApiError(422, f"A multipart/form-data request needs {wanted}, but has {len(texts)}.", part)
    return Upload(texts, images)


async def _image(value: UploadFile | str, max_bytes: int) -> tuple[str, bytes]:
    if not isinstance(value, UploadFile) or not value.filename:
        raise ApiError(422, "Every images part needs a file name, by which a camera refers to it.", "images")
    data = await value.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ApiError(422, f"The image {value.filename[:200]!r} has more than {max_bytes} bytes.", "images")
    return value.filename, data


async def _text(value: UploadFile | str, part: str) -> bytes:
    """The JSON, sent as a field or as a file (curl -F clip=@clip.json)."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    data = await value.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ApiError(422, f"The {part} part is larger than {MAX_JSON_BYTES} bytes.", part)
    return data
