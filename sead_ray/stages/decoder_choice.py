"""Where a pool's images are decoded: in CPU tasks, or by the JPEG engines of the GPUs that score.

The two differ by a little in every pixel, so that one run keeps to one of them: what is measured once is written
down, and every later round and restart goes by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import cv2
import ray
import torch

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.device_images import can_decode, images_on_device
from sead_ray.nuscenes.encoded_images import EncodedImages
from sead_ray.records import CAMERAS, Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip, load_encoded_clip
from sead_ray.stages.pipeline_size import PipelineSize
from sead_ray.stages.progress import say
from sead_ray.storage import Store

Decoder = Literal["cpu", "gpu"]

WORTH_MEASURING_IMAGES = 20_000  # of a pool; measuring takes as long as decoding about so many
PROBE_FRAMES = 8  # of the pool's first clip
GPU_ROUNDS = 8


def choose_decoder(
    run: Store, root: str, image: ImageConfig, score: ScoreConfig, size: PipelineSize, n_clips: int
) -> Decoder:
    """What `score.decode_on` says; for auto what this run began with, or what is measured to be faster.

    Args:
        n_clips: that are to be scored, each as long as the pool's first.

    Raises:
        InputError: the GPU's decoder is asked for, and there is none.
    """
    known = known_decoder(run, image, score, size, n_clips)
    if known:
        return known
    rates = {"cpu": cpu_decode_fps(run, root, image, 2), "gpu": gpu_decode_fps(run, root, image, size)}
    faster: Decoder = "gpu" if rates["gpu"] > rates["cpu"] else "cpu"
    run.write_json(layout.DECODER, {"decoder": faster, "frames_per_s": rates})
    say(f"images are decoded on the {faster.upper()}: {rates['gpu']:.0f} frames/s there, {rates['cpu']:.0f} on CPUs")
    return faster


def known_decoder(
    run: Store, image: ImageConfig, score: ScoreConfig, size: PipelineSize, n_clips: int
) -> Decoder | None:
    """What `choose_decoder` comes to; None where it would measure."""
    if score.decode_on == "cpu":
        return "cpu"
    on_gpu = size.gpus_per_actor > 0 and image.decode == "full"  # a GPU does not scale while it decodes
    if score.decode_on == "gpu":
        if not (on_gpu and _possible(size)):
            raise InputError(
                "score.decode_on is gpu, but that needs a GPU for the model, torchvision with nvJPEG on its node, and "
                "image.decode: full."
            )
        return "gpu"
    if run.exists(layout.DECODER):
        return _as_before(run, size, on_gpu)
    if not on_gpu or n_clips * len(first_clip(run).frames) * len(CAMERAS) < WORTH_MEASURING_IMAGES:
        return "cpu"
    return None


def _as_before(run: Store, size: PipelineSize, on_gpu: bool) -> Decoder:
    before: Decoder = run.read_json(layout.DECODER)["decoder"]
    if before == "gpu" and not (on_gpu and _possible(size)):
        say("this run began to decode on GPUs, which is not possible here: scores may differ a little", "warning")
        return "cpu"
    return before


def _possible(size: PipelineSize) -> bool:
    """Whether an actor's node decodes on its GPU."""
    return ray.get(on_actor(can_decode, size).remote())


def first_clip(run: Store) -> Clip:
    """Stands for all clips where their size matters."""
    return Clip.from_row(next(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA)))


def cpu_decode_fps(run: Store, root: str, image: ImageConfig, repeats: int) -> float:
    """Frames a second of as many decoding tasks as there are CPUs, with nothing behind them: a median."""
    clip = first_clip(run)
    n_tasks = max(1, int(ray.cluster_resources().get("CPU", 1)))
    task = ray.remote(num_cpus=1)(_decode_once)
    rates = []
    for _ in range(1 + repeats):  # the first starts the processes
        spans = ray.get([task.remote(clip, root, image) for _ in range(n_tasks)])
        seconds = max(stop for _, stop, _ in spans) - min(start for start, _, _ in spans)
        rates.append(sum(n_frames for _, _, n_frames in spans) / seconds)
    rates = sorted(rates[1:])
    return rates[len(rates) // 2]


def _decode_once(clip: Clip, root: str, image: ImageConfig) -> tuple[float, float, int]:
    cv2.setNumThreads(1)
    started = time.time()
    load_clip(clip, root, image)
    return started, time.time(), len(clip.frames)


def gpu_decode_fps(run: Store, root: str, image: ImageConfig, size: PipelineSize) -> float:
    """Frames a second of the JPEG engines of all GPUs that the pipeline takes; 0 where they have none."""
    task = on_actor(_gpu_decode_fps, size)
    return size.max_actors * ray.get(task.remote(first_clip(run), root, image, size.clips_per_batch))


def _gpu_decode_fps(clip: Clip, root: str, image: ImageConfig, clips_per_batch: int) -> float:
    if not can_decode():
        return 0.0
    encoded = load_encoded_clip(clip, root, image).images
    assert isinstance(encoded, EncodedImages)
    steps = []
    for t in range(min(PROBE_FRAMES, len(encoded))):
        files, keys = encoded.frame(t)
        steps.append((files * clips_per_batch, [*keys] * clips_per_batch))
    for round_number in range(GPU_ROUNDS):
        if round_number == 1:  # the first one starts the decoder
            torch.cuda.synchronize()
            started = time.perf_counter()
        for files, keys in steps:
            images_on_device(files, keys, encoded.geometry, image, torch.device("cuda"))
            torch.cuda.current_stream().synchronize()
    seconds = time.perf_counter() - started
    return (GPU_ROUNDS - 1) * len(steps) * clips_per_batch / seconds


def on_actor(function: Callable[..., Any], size: PipelineSize) -> Any:
    """The function as a task with what an actor of the pipeline has."""
    return ray.remote(num_cpus=size.cpus_per_actor, num_gpus=size.gpus_per_actor)(function)
