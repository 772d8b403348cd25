"""Measures image loading on one core: ours beside OpenCV's decode-then-resize and VAD's float pipeline.

Takes a folder of JPEGs of one size (--images), or draws textured ones of 1600x900. The variants take turns at each
image and CPU time is counted, so that a busy machine slows all alike; medians over the rounds are printed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import ImageConfig, Schema
from sead_ray.errors import InputError
from sead_ray.nuscenes.images import MEAN_RGB, SIZE_DIVISOR, STD_RGB, ImageGeometry, decode_images, jpeg_size, normalise

Image = np.ndarray
Variant = Callable[[bytes], object]


class BenchLoaderConfig(Schema):
    images: str | None = None
    """Folder of JPEGs, searched with all below it; None: textured ones are drawn."""
    n_images: int = Field(default=54, ge=1)
    """At most so many are taken, or so many drawn."""
    width: int = Field(default=640, ge=32, multiple_of=32)
    """Of the images that the network sees; 640 of 1600 is VAD-Tiny."""
    rounds: int = Field(default=7, ge=1)


def plan(config: BenchLoaderConfig) -> str:
    source = config.images or "drawn textures"
    return f"{config.rounds} rounds over at most {config.n_images} images ({source}), to width {config.width}"


def job(config: BenchLoaderConfig) -> str:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    images = read_images(config.images, config.n_images) if config.images else drawn_images(config.n_images)
    height, width = jpeg_size(images[0])
    images = [image for image in images if jpeg_size(image) == (height, width)]
    scale = config.width / width
    resized = round(height * scale)
    geometry = ImageGeometry(width, height, scale, config.width, resized, -(-resized // SIZE_DIVISOR) * SIZE_DIVISOR)
    seconds = measure(variants(geometry), images, config.rounds)
    rates = {name: len(images) / value for name, value in seconds.items()}
    source = f"real, of {config.images}" if config.images else "DRAWN textures, no photographs"
    lines = [f"{len(images)} JPEGs of {width}x{height} ({source}), to {config.width}x{resized}, one thread:"]
    lines += [f"  {name:54s} {rate:7.1f} images/s per core" for name, rate in rates.items()]
    ours, ours_float, opencv, vad, full = rates.values()
    lines.append(
        f"ours / OpenCV's decode-then-resize, both to uint8: {ours / opencv:.2f}; full decode: {full / opencv:.2f}"
    )
    lines.append(f"ours / VAD's float pipeline: {ours / vad:.2f} as loaded (uint8; the training device normalises)")
    lines.append(f"ours / VAD's float pipeline: {ours_float / vad:.2f} with the normalisation on this core as well")
    return "\n".join(lines)


def variants(geometry: ImageGeometry) -> dict[str, Variant]:
    dct, full = ImageConfig(width=geometry.width, decode="dct"), ImageConfig(width=geometry.width)
    return {
        "ours: DCT-scaled decode, resize, pad (uint8)": partial(_ours, geometry=geometry, config=dct),
        "ours: the same, normalised (float32)": partial(_ours_float, geometry=geometry, config=dct),
        "OpenCV: decode, resize (uint8)": partial(_opencv, geometry=geometry),
        "VAD: decode, float32, normalise, resize, pad": partial(_vad, geometry=geometry),
        "ours: full decode, resize, pad (uint8)": partial(_ours, geometry=geometry, config=full),
    }


def measure(contestants: dict[str, Variant], images: list[bytes], rounds: int) -> dict[str, float]:
    """Median over the rounds of the CPU seconds that one pass over the images takes."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for variant in contestants.values():
        variant(images[0])
    for _ in range(rounds):
        spent = dict.fromkeys(contestants, 0.0)
        for image in images:
            for name, variant in contestants.items():
                started = time.thread_time()
                variant(image)
                spent[name] += time.thread_time() - started
        for name, seconds in spent.items():
            taken[name].append(seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def _ours(data: bytes, geometry: ImageGeometry, config: ImageConfig) -> Image:
    return decode_images([data], [""], geometry, config)[0]


def _ours_float(data: bytes, geometry: ImageGeometry, config: ImageConfig) -> torch.Tensor:
    return normalise(torch.from_numpy(_ours(data, geometry, config)), geometry.height)


def _opencv(data: bytes, geometry: ImageGeometry) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.resize(image, (geometry.width, geometry.height))


def _vad(data: bytes, geometry: ImageGeometry) -> Image:
    """The steps of VAD's data pipeline, in its order: all before the resize at full size, in float32."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(np.float32)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    cv2.subtract(image, np.array([MEAN_RGB], np.float64), image)
    cv2.multiply(image, 1 / np.array([STD_RGB], np.float64), image)
    resized = cv2.resize(image, (geometry.width, geometry.height))
    padded = np.zeros((geometry.padded_height, geometry.width, 3), np.float32)
    padded[: geometry.height] = resized
    return np.ascontiguousarray(padded.transpose(2, 0, 1))


def read_images(folder: str, at_most: int) -> list[bytes]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:at_most]
    if not paths:
        raise InputError(f"{folder} holds no JPEG.")
    return [path.read_bytes() for path in paths]


def drawn_images(count: int) -> list[bytes]:
    """Noise of several grain sizes over a gradient: about as many bytes as nuScenes' photographs."""
    images = []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = np.linspace(60, 180, 900)[:, None, None].repeat(1600, 1).repeat(3, 2)
        for grain, strength in ((4, 12), (16, 25), (64, 40)):
            noise = rng.normal(0, strength, (900 // grain + 1, 1600 // grain + 1, 3)).astype(np.float32)
            image = image + cv2.resize(noise, (1600, 900), interpolation=cv2.INTER_CUBIC)
        done, jpeg = cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert done
        images.append(jpeg.tobytes())
    return images


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=BenchLoaderConfig, prog="python -m jobs.bench_loader")
