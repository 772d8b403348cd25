"""Small JPEGs inside the page, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from sead_ray.errors import InputError
from sead_ray.image_keys import read_image
from sead_ray.storage import Store

WIDTH_PX = 176
QUALITY = 62


@dataclass
class ByteBudget:
    """Bytes that images may still add to the page."""

    left: int

    def take(self, n_bytes: int) -> bool:
        if n_bytes > self.left:
            self.left = 0  # the first that does not fit ends it: no later clip gets a strip with holes
            return False
        self.left -= n_bytes
        return True


def thumbnail_uri(data: Store, key: str, width_px: int = WIDTH_PX) -> str | None:
    """`thumbnail` as a data URI."""
    small = thumbnail(data, key, width_px)
    return "data:image/jpeg;base64," + base64.b64encode(small).decode() if small else None


def thumbnail(data: Store, key: str, width_px: int = WIDTH_PX) -> bytes | None:
    """The image at `key` as a JPEG, re-encoded at `width_px`; None where it is missing or no image."""
    try:
        image = Image.open(io.BytesIO(read_image(data, key)))
        height_px = max(1, round(image.height * width_px / image.width))
        image.draft("RGB", (width_px, height_px))  # libjpeg decodes at a reduced scale
        small = image.convert("RGB").resize((width_px, height_px), Image.Resampling.BILINEAR)
    except (InputError, OSError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def frames_to_show(n_frames: int, bought: range, limit: int) -> list[int]:
    """At most `limit` frame indices: bought frames first, then the others, evenly spaced, in order of time."""
    inside = [index for index in range(n_frames) if index in bought]
    outside = [index for index in range(n_frames) if index not in bought]
    chosen = _evenly(inside, limit)
    return sorted(chosen + _evenly(outside, limit - len(chosen)))


def _evenly(indices: list[int], limit: int) -> list[int]:
    if len(indices) <= limit:
        return indices
    if limit <= 0:
        return []
    return [indices[position * len(indices) // limit] for position in range(limit)]
