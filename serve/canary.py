"""A made-up clip, always the same: what a model is warmed and tried with before anybody's clip meets it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sead_ray.config import ImageConfig
from sead_ray.nuscenes.images import image_geometry
from sead_ray.records import CAMERAS
from sead_ray.stages.clip_runner import LoadedClip
from sead_ray.stages.noise_clip import noise_clip, noise_images

FRAMES = 3
WIDTH, HEIGHT = 1600, 900  # nuScenes' images: what most requests have


@lru_cache(maxsize=4)
def canary_clip(image: ImageConfig) -> LoadedClip:
    clip = noise_clip("canary", FRAMES, WIDTH, HEIGHT)
    geometry = image_geometry(clip.frames[0], image)
    images = np.zeros((FRAMES, len(CAMERAS), geometry.padded_height, geometry.width, 3), np.uint8)
    images[:, :, : geometry.height] = noise_images(FRAMES, geometry.width, geometry.height)
    return LoadedClip(clip, images, geometry)
