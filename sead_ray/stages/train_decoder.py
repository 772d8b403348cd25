"""Where a training's images are decoded: by its loader on CPUs, or by the JPEG engine of the GPU that trains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.device_images import can_decode
from sead_ray.stages import layout
from sead_ray.stages.decoder_choice import Decoder
from sead_ray.stages.progress import say
from sead_ray.storage import Store

WAITED_TOO_LONG = 0.1  # of a training's time


def waiting_share(history: Sequence[Mapping[str, Any]]) -> float:
    """Of the time between the entries of a training's log, how much it waited for its loader. What lies between two
    processes of one training, the second of which counts its waiting from 0, is left out."""
    steps = [
        (after["time_s"] - before["time_s"], after["waited_s"] - before["waited_s"])
        for before, after in pairwise(history)
        if after["waited_s"] >= before["waited_s"]
    ]
    seconds = sum(passed for passed, _ in steps)
    return sum(waited for _, waited in steps) / seconds if seconds > 0 else 0.0


def training_decoder(run: Store, config: RunConfig, number: int, on_gpus: bool) -> Decoder:
    """What `train.decode_on` says; for auto the GPU from the round on before which one was measured to wait for its
    loader, unless rounds waited longer for GPUs than for CPUs. With `overlap` the round directly before is not looked
    at: it may still be training.

    The same at every start of one round.

    Args:
        on_gpus: whether the training's workers ask for GPUs.
    """
    wanted = config.train.decode_on
    if wanted != "auto":
        return wanted
    if not on_gpus or config.image.decode != "full":
        return "cpu"
    shares = _waited(run, number - (2 if config.overlap else 1))
    if shares.get("cpu", 0.0) <= WAITED_TOO_LONG:
        return "cpu"
    faster = min(shares, key=lambda decoder: shares[decoder]) if "gpu" in shares else "gpu"
    told = ", ".join(f"{share:.0%} for {decoder.upper()}s" for decoder, share in shares.items())
    say(f"train round {number}: {faster.upper()}s decode the images; rounds before waited {told} of their time")
    return faster


def _waited(run: Store, last: int) -> dict[Decoder, float]:
    """`waiting_share` of the latest round up to `last` by the decoder that it used."""
    shares: dict[Decoder, float] = {}
    for number in range(last + 1):
        if run.is_published(layout.model(number)):
            log = run.read_bytes(f"{layout.model(number)}/metrics.jsonl").decode()
            history = [json.loads(line) for line in log.splitlines()]
            shares[history[0].get("decoder", "cpu")] = waiting_share(history)
    return shares


def decodes_here(decoder: Decoder, config: RunConfig, device: torch.device) -> bool:
    """Whether this worker's GPU decodes its images.

    Raises:
        InputError: it was asked to, and cannot.
    """
    if decoder == "cpu":
        return False
    possible = device.type == "cuda" and config.image.decode == "full" and can_decode()
    if config.train.decode_on == "gpu" and not possible:
        raise InputError(
            "train.decode_on is gpu, but that needs a GPU for each worker, torchvision with nvJPEG on its node, and "
            "image.decode: full."
        )
    return possible
