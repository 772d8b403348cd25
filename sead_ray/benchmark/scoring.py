"""Figures of a scoring run: frames per second over time, their ceiling, the split by stage, and a row for a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field

from sead_ray.benchmark.timing import Stopwatch
from sead_ray.config import ImageConfig, ModelConfig, Schema, ScoreConfig
from sead_ray.errors import InputError

WINDOWS = 5  # of the measured time; their median is the result


class ScoringBenchConfig(Schema):
    """What is measured. Without `clips_from` a pool is made: scenes of the embedded world, repeated under new names."""

    root: str = "data/bench_scoring"
    """Data root: where the scenes are generated, or where the images of `clips_from` lie."""
    run_dir: str = "runs/bench_scoring"
    """Where the pool, the model and the scores are written; kept for the next time."""
    clips_from: str | None = None
    """Run folder with prepared clips whose pool is scored instead of generated scenes."""
    clips: int = Field(default=256, ge=2)
    """Scored in all, by repeating those that are there."""
    frames: int = Field(default=40, ge=2)
    """A clip; a generated scene's frames are passed forwards and backwards."""
    scenes: int = Field(default=16, ge=4)
    scene_frames: int = Field(default=10, ge=8)
    image_width: int = Field(default=1600, ge=64)
    image_height: int = Field(default=900, ge=36)
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    pretrained: bool = True
    """A model as with ImageNet weights: batch norms, frozen. Off: GroupNorm."""
    model_dir: str | None = None
    """A model's folder, instead of a new one at random."""
    score: ScoreConfig = ScoreConfig()
    repeats: int = Field(default=5, ge=1)
    """Of the model alone and of the decoders alone."""
    seed: int = 0


def time_alone(
    step: Callable[[], object], features: Callable[[], object], frames: int, device: torch.device, repeats: int
) -> dict[str, float]:
    """Frames per second of the model and of its image network: medians of `repeats` runs of about a second.

    Args:
        step: one step of the model; features: its image network alone, on the same images.
        frames: that one step stands for.
    """
    watch = Stopwatch(device)
    rates = {}
    for name, call in (("model", step), ("backbone", features)):
        start = watch.now()
        for _ in range(3):  # compiles, chooses algorithms, captures
            call()
        start = watch.now()
        call()
        count = max(1, round(1.0 / max(watch.now() - start, 1e-6)))
        for _ in range(repeats):
            with watch.measure(name):
                for _ in range(count):
                    call()
        rates[name] = count * frames / statistics.median(watch.seconds[name])
    return rates


def window_rates(finished: Sequence[tuple[float, int]], warm_up: int) -> dict[str, Any]:
    """Frames per second of clips that were finished one after the other.

    Args:
        finished: (time in seconds, frames) of each clip, in any order.
        warm_up: so many clips are left out at the start; time counts from the last of them.

    Returns:
        fps: the median of up to `WINDOWS` windows of equally many clips; fps_windows; fps_whole: of all of them
        together; start_s and stop_s of the measured time.

    Raises:
        InputError: no clip was finished after the warm-up.
    """
    ordered = sorted(finished)
    warm_up = min(max(1, warm_up), len(ordered) - 1)
    start_s = ordered[warm_up - 1][0]
    counted = [item for item in ordered if item[0] > start_s]
    if not counted:
        raise InputError(f"All {len(ordered)} clips were scored by the end of the warm-up: measure more (clips).")
    moments = sorted({moment for moment, _ in counted})  # a batch's clips are finished together
    n_windows = min(WINDOWS, len(moments))
    edges = [start_s, *(moments[len(moments) * (k + 1) // n_windows - 1] for k in range(n_windows))]
    windows = [
        sum(frames for moment, frames in counted if low < moment <= high) / (high - low)
        for low, high in pairwise(edges)
    ]
    whole = sum(frames for _, frames in counted) / (edges[-1] - start_s)
    return {
        "fps": statistics.median(windows),
        "fps_windows": windows,
        "fps_whole": whole,
        "start_s": start_s,
        "stop_s": edges[-1],
    }


def ceiling(result: dict[str, Any]) -> dict[str, float]:
    """The lower of what the decoders and what the models alone can do, and how much of it was reached."""
    limit = min(result["decode_fps"], result["n_actors"] * result["model_fps"])
    return {"ceiling_fps": limit, "ratio": result["fps"] / limit, "backbone_fps": result["backbone_fps"]}


def markdown(result: dict[str, Any]) -> str:
    """Two lines of header and one of figures."""
    gpu = result.get("gpu") or {}
    busy = f"{gpu['utilisation_percent']:.0f} %" if gpu else "-"
    cells = {
        "date": result["date"],
        "hardware": f"{result['n_actors']} x {result['device_name']}, {result['cpus']:.0f} CPUs",
        "model": f"{result['model']}, {result['precision']}, {result['clips_per_batch']} clips a batch",
        "frames/s end to end": f"{result['fps']:.1f}",
        "model alone": f"{result['model_fps']:.1f}",
        "image network": f"{result['backbone_fps']:.1f}",
        "decoders alone": f"{result['decode_fps']:.1f} ({result['decoder'].upper()})",
        "of the ceiling": f"{result['ratio']:.0%}",
        "GPU busy": busy,
        "peak memory, GiB": f"{result['peak_memory_gib']:.1f}",
        "command": f"`{result['command']}`",
    }
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells, ["---"] * len(cells), cells.values()))
