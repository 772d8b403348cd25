"""Files that pretend to be JPEGs, or are more than that: from a whole JPEG of 160 x 90 pixels to the hostile one."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The same file, its header telling another size."""
    position = next(jpeg.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in jpeg)
    return jpeg[: position + 5] + struct.pack(">HH", height, width) + jpeg[position + 9 :]


def png_bomb() -> bytes:
    """30,000 x 30,000 black pixels in 100 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(3751) * 2000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(10**6))
    return out.getvalue()


def progressive(scans: int) -> bytes:
    """The scans of a progressive JPEG, its last one repeated."""
    out = io.BytesIO()
    Image.new("RGB", (160, 90)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (160, 90)).save(out, kind, **options)
    return out.getvalue()


IMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda jpeg: b"",
    "one byte": lambda jpeg: jpeg[:1],
    "start only": lambda jpeg: jpeg[:2],
    "start and end": lambda jpeg: b"\xff\xd8\xff\xd9",
    "text": lambda jpeg: b"not an image",
    "half": lambda jpeg: jpeg[: len(jpeg) // 2],
    "without its end": lambda jpeg: jpeg[:-2],
    "without its start": lambda jpeg: jpeg[2:],
    "header cut": lambda jpeg: jpeg[:30],
    "segment longer than the file": lambda jpeg: b"\xff\xd8\xff\xe0\xff\xff" + jpeg[4:],
    "segment of length 0": lambda jpeg: b"\xff\xd8\xff\xe0\x00\x00" + jpeg[2:],
    "endless empty segments": lambda jpeg: b"\xff\xd8" + b"\xff\xe1\x00\x02" * 20_000 + jpeg[2:],
    "fill bytes without end": lambda jpeg: b"\xff\xd8" + b"\xff" * 90_000,
    "png": lambda jpeg: saved("PNG"),
    "gif": lambda jpeg: saved("GIF"),
    "tiff": lambda jpeg: saved("TIFF"),
    "webp": lambda jpeg: saved("WEBP"),
    "png bomb": lambda jpeg: png_bomb(),
    "svg": lambda jpeg: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "cmyk": lambda jpeg: saved("JPEG", "CMYK"),
    "10^5 wide": lambda jpeg: with_size(jpeg, 65535, 65535),
    "wide strip": lambda jpeg: with_size(jpeg, 65535, 1),
    "high strip": lambda jpeg: with_size(jpeg, 1, 65535),
    "flat": lambda jpeg: with_size(jpeg, 9000, 16),
    "size 0": lambda jpeg: with_size(jpeg, 0, 90),
    "height by a later marker": lambda jpeg: with_size(jpeg, 160, 0),
    "other size": lambda jpeg: with_size(jpeg, 160, 91),
    "hundreds of scans": lambda jpeg: progressive(500),
    "two images": lambda jpeg: jpeg + jpeg,
    "zip behind": lambda jpeg: jpeg + zipped(),
    "html behind": lambda jpeg: jpeg + b"<script>alert(1)</script>",
    "pdf before": lambda jpeg: b"%PDF-1.4\n" + jpeg,
    "gzip": lambda jpeg: gzip.compress(jpeg),
    "lossless": lambda jpeg: jpeg.replace(b"\xff\xc0", b"\xff\xc3"),
    "arithmetic": lambda jpeg: jpeg.replace(b"\xff\xc0", b"\xff\xc9"),
    "12 bit": lambda jpeg: jpeg.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"),
    "no tables": lambda jpeg: jpeg.replace(b"\xff\xdb", b"\xff\xe5").replace(b"\xff\xc4", b"\xff\xe6"),
}
