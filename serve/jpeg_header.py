"""What a JPEG is before any pixel of it is decoded: its size, that it is one image and nothing else.

A small file can cost much: tens of thousands of scans over the same pixels, or 65,535 pixels a side. And a file that is
a JPEG and, behind its end, something else is not taken to where others may read it as that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SCANS = 64  # a progressive JPEG of libjpeg has 10
MAX_SEGMENTS = 4096
_STRETCH = 1 << 18
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_BASELINE_OR_PROGRESSIVE = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # lossless, arithmetic, …
# What follows FF inside a scan: 00 is a stuffed byte, D0 to D7 restart the decoder. All else ends the scan.
_ENDS_SCAN = np.ones(256, bool)
_ENDS_SCAN[[0x00, 0xFF, *range(0xD0, 0xD8)]] = False


@dataclass(frozen=True)
class JpegHeader:
    width: int
    height: int


def read_header(data: bytes, to_end: bool = True) -> JpegHeader:
    """Walks over all segments of the file, up to its end; else up to its pixels, which are nearly all of it.

    Raises:
        ValueError: half a sentence that says what is wrong with it.
    """
    if data[:2] != bytes((0xFF, _START)):
        raise ValueError("is not a JPEG")
    size: JpegHeader | None = None
    position, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker, body, position = _segment(data, position)
        if marker == _END:
            break
        if marker in _OTHER_FRAMES:
            raise ValueError("is a JPEG of a kind that is not read here (baseline and progressive are)")
        if marker in _BASELINE_OR_PROGRESSIVE:
            if size is not None:
                raise ValueError("is not a JPEG of one image")
            size = _frame_size(body)
        if marker == _SCAN:
            if size is not None and not to_end:
                return size
            scans += 1
            if scans > MAX_SCANS:
                raise ValueError(f"has more than {MAX_SCANS} scans")
            position = _end_of_scan(data, position)
    else:
        raise ValueError(f"has more than {MAX_SEGMENTS} segments")
    if size is None or not scans:
        raise ValueError("is a JPEG without an image")
    if data[position:].strip(b"\x00\xff"):  # cameras pad their files
        raise ValueError("goes on behind the end of its JPEG")
    return size


def _segment(data: bytes, position: int) -> tuple[int, bytes, int]:
    """(marker, its body, where the next one begins)."""
    while data[position : position + 2] == b"\xff\xff":  # fill bytes
        position += 1
    if len(data) < position + 2 or data[position] != 0xFF:
        raise ValueError("is not a whole JPEG")
    marker = data[position + 1]
    if marker == _END:
        return marker, b"", position + 2
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    stop = position + 2 + length
    if length < 2 or stop > len(data):
        raise ValueError("is not a whole JPEG")
    return marker, data[position + 4 : stop], stop


def _end_of_scan(data: bytes, position: int) -> int:
    """Where the next marker is. In numpy, which lets other threads run meanwhile: nearly all of a file is its scan."""
    for start in range(position, len(data), _STRETCH):  # a file of many scans is not looked at to its end for each
        stretch = np.frombuffer(data, np.uint8, min(_STRETCH + 1, len(data) - start), start)
        marks = np.flatnonzero(stretch[:-1] == 0xFF)
        ends = np.flatnonzero(_ENDS_SCAN[stretch[marks + 1]])
        if len(ends):
            return start + int(marks[ends[0]])
    raise ValueError("is not a whole JPEG")


def _frame_size(body: bytes) -> JpegHeader:
    if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3):
        raise ValueError("is not a JPEG of 8 bits in grey or three colours")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not width or not height:
        raise ValueError("is a JPEG without a size")
    return JpegHeader(width, height)
