"""Images decoded and resized on the device against libjpeg and OpenCV.

On a CPU the resize alone is the device's; `SEAD_PARITY_DEVICE=cuda` runs the kernel and the GPU's JPEG engine.
"""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.device_images import can_decode, images_on_device, resize
from sead_ray.nuscenes.images import STD_RGB, ImageGeometry, decode_images, normalise
from tests import triton_script

DEVICE = torch.device(os.environ.get("SEAD_PARITY_DEVICE", "cpu"))
GEOMETRIES = [
    ImageGeometry(1600, 900, 0.4, 640, 360, 384),
    ImageGeometry(1920, 1080, 1 / 3, 640, 360, 384),
    ImageGeometry(1023, 577, 320 / 1023, 320, 181, 192),
    ImageGeometry(320, 180, 1.0, 320, 180, 192),
]
LEVEL = 1 / min(STD_RGB)  # of 255, after the normalisation


def picture(geometry: ImageGeometry, seed: int) -> NDArray[np.uint8]:
    """Smooth colours with edges, as JPEG likes them, and some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (geometry.source_width, geometry.source_height), interpolation=cv2.INTER_CUBIC)
    cv2.rectangle(image, (40, 40), (geometry.source_width // 2, 140), (255, 30, 10), -1)
    return cv2.add(image, rng.integers(0, 4, image.shape, dtype=np.uint8))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: f"{g.source_width}x{g.source_height}")
def test_the_resize_is_opencvs(geometry: ImageGeometry) -> None:
    images = [picture(geometry, seed) for seed in range(2)]
    expected = np.zeros((2, geometry.padded_height, geometry.width, 3), np.uint8)
    for out, image in zip(expected, images):
        cv2.resize(image, (geometry.width, geometry.height), dst=out[: geometry.height])
    planes = torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous().to(DEVICE)
    found = resize(planes, geometry, normalised=True).cpu()
    torch.testing.assert_close(found, normalise(torch.from_numpy(expected), geometry.height), rtol=0, atol=1e-6)


KERNEL = """
import torch
from sead_ray.nuscenes import device_images, resize_triton
from sead_ray.nuscenes.images import ImageGeometry

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
geometry = ImageGeometry(57, 33, 32 / 57, 32, 19, 32)
images = torch.randint(0, 256, (2, 3, 33, 57), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(device)
taps = device_images.taps(geometry, device)
kernel = {normalised: resize_triton.resize(images, geometry, taps, normalised) for normalised in (False, True)}
device_images._has_kernel = lambda device: False
assert torch.equal(kernel[False], device_images.resize(images, geometry, normalised=False))
torch.testing.assert_close(kernel[True], device_images.resize(images, geometry, normalised=True), rtol=0, atol=1e-6)
print("equal")
"""


def test_the_kernel_is_the_plain_resize() -> None:
    assert triton_script.run(KERNEL) == "equal"


@pytest.mark.parametrize("quality", [75, 95])
def test_decoding_differs_by_little(quality: int) -> None:
    geometry, config = GEOMETRIES[0], ImageConfig()
    files = [
        cv2.imencode(".jpg", picture(geometry, seed), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].ravel()
        for seed in range(6)
    ]
    keys = [f"{number}.jpg" for number in range(6)]
    pixels, valid_height = decode_images([file.tobytes() for file in files], keys, geometry, config)
    expected = normalise(torch.from_numpy(pixels), valid_height)
    found = images_on_device(files, keys, geometry, config, DEVICE).cpu()
    off = (found - expected).abs() / LEVEL
    assert off.mean() < 0.5
    assert (off > 16).float().mean() < 1e-3  # chroma, along the rectangle's edge
    if DEVICE.type == "cpu":
        assert off.max() == 0


def test_a_grey_picture_and_a_broken_one() -> None:
    geometry, config = GEOMETRIES[3], ImageConfig(width=320)
    grey = cv2.imencode(".jpg", cv2.cvtColor(picture(geometry, 0), cv2.COLOR_BGR2GRAY))[1].ravel()
    found = images_on_device([grey], ["grey.jpg"], geometry, config, DEVICE).cpu()
    levels = found[0, :, :180] * torch.tensor(STD_RGB)[:, None, None] + 128
    assert (levels.std(0) < 20).all()
    with pytest.raises(InputError, match=r"broken\.jpg"):
        images_on_device([grey, grey[:200]], ["grey.jpg", "broken.jpg"], geometry, config, DEVICE)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="no GPU is asked for")
def test_the_gpus_engine_is_found() -> None:
    assert can_decode()
