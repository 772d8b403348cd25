"""Whether the images that a log's rows name are there; nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence

from sead_ray.errors import InputError
from sead_ray.image_keys import file_of, is_empty
from sead_ray.records import Clip
from sead_ray.storage import Store


def require_images(store: Store, clips: Sequence[Clip]) -> None:
    """Raises `InputError` for the first image of `clips` that is missing or empty.

    Images inside Arrow files are asked for on a local disk only, where that reads no image.
    """
    cameras = [(frame.token, camera.key) for clip in clips for frame in clip.frames for camera in frame.cameras]
    files = [key for _, key in cameras if file_of(key) == key]
    sizes = store.file_sizes(files)
    for token, key in cameras:
        if key in sizes and not sizes[key]:
            if sizes[key] is not None:
                raise InputError(f"{store.path(key)} of frame {token} is empty.")
            place = store.path("/".join(key.split("/")[:2]))
            raise InputError(
                f"{store.path(key)} of frame {token} does not exist: link or mount the data set's own folder of "
                f"sensors at {place}."
            )
        if key not in sizes and store.is_local and is_empty(store, key):
            raise InputError(f"Image {key} of frame {token} is empty.")
