"""Seconds and memory of VAD: the image network alone, a whole frame, a training step, each split by part."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from sead_ray.benchmark.inputs import random_frame, random_targets
from sead_ray.benchmark.timing import Stopwatch, median_ratio, peak_memory_gib, reset_peak_memory
from sead_ray.config import ModelConfig, Schema, TrainConfig
from sead_ray.errors import InputError
from sead_ray.model.decode import decode_boxes, decode_lines
from sead_ray.model.folding import unfolded
from sead_ray.model.presets import resolve
from sead_ray.model.vad import VAD
from sead_ray.training.criterion import VADCriterion
from sead_ray.training.optim import build_optimizer

# The unit is mmdet's own backbone and neck, as they come: what upstream runs, and what stays comparable however fast
# ours become.
UNIT, FOLDED, FORWARD, STEP = "backbone_and_neck", "folded_backbone_and_neck", "forward", "training_step"
PARTS = ("backbone", "neck", "encoder", "agents", "maps", "motion", "planner")


class ModelBenchConfig(Schema):
    """What is measured. The inputs are random images with nuScenes' calibration; no data is needed."""

    model: ModelConfig = ModelConfig()
    height: int = Field(default=384, ge=32)
    """Of the image as the network gets it, padding included; a multiple of 32."""
    width: int = Field(default=640, ge=32)
    """Likewise."""
    pretrained: bool = True
    """As with ImageNet weights (VAD): batch norms frozen, stem and first stage without gradients. Off: GroupNorm."""
    batch: int = Field(default=1, ge=1)
    queue_length: int = Field(default=3, ge=1)
    """Frames of a training sample, the current one included."""
    train: bool = True
    """Measure a training step too."""
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(default=0, ge=0)
    """CPU threads of PyTorch; 0: its default."""
    repeats: int = Field(default=5, ge=1)
    seed: int = 0

    @field_validator("height", "width")
    @classmethod
    def _whole_strides(cls, value: int) -> int:
        if value % 32:
            raise ValueError("must be a multiple of 32, the image network's stride")
        return value

    def torch_device(self) -> torch.device:
        """The device; `InputError` where it is not there."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device is cuda, but PyTorch finds no CUDA GPU here.")
        return torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")


def bench_model(config: ModelBenchConfig, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Measures, `repeats` times in turn, so that a busy machine disturbs everything alike. Medians.

    Returns:
        `seconds` (per call), `seconds_per_frame`, `ratios` to backbone and neck (mmdet's modules as they come: batch
        norms apart, channels first, as upstream's), `ratios_to_folded` to backbone and neck as they run here (batch
        norms folded, channels last on a CPU), `parts` of the forward pass, `training_parts`, `peak_memory_gib`,
        `samples` (every measurement), `setting`, `machine`.
    """
    device = config.torch_device()
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads or threads)
    try:
        bench = _Bench(config, device)
        memory = bench.warm_up(progress)
        for repeat in range(config.repeats):
            progress(f"repeat {repeat + 1} of {config.repeats}")
            bench.run()
        return bench.result() | {"peak_memory_gib": memory}
    finally:
        torch.set_num_threads(threads)


class _Bench:
    def __init__(self, config: ModelBenchConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        torch.manual_seed(config.seed)
        size = resolve(config.model)
        if config.pretrained and "norm" not in config.model.overrides:
            size = dataclasses.replace(size, norm="BN")
        self.model = VAD(size, pretrained_backbone=config.pretrained).to(device)
        self.frames = [
            random_frame(config.batch, config.height, config.width, config.seed + step, first=step == 0).to(str(device))
            for step in range(max(2, config.queue_length))
        ]
        self.targets = [random_targets(config.seed + index) for index in range(config.batch)]
        self.criterion = VADCriterion("e2e", size.pc_range)
        self.optimizer = build_optimizer(self.model, TrainConfig(), config.pretrained)
        self.whole, self.parts, self.step = Stopwatch(device), Stopwatch(device), Stopwatch(device)
        self.previous: Tensor | None = None

    def warm_up(self, progress: Callable[[str], None]) -> dict[str, float]:
        """One run of each; peak memory of inference and of training."""
        peaks = {}
        reset_peak_memory(self.device)
        progress("warm-up: inference")
        with self._inference():
            self.previous = self.model.encode_bev(self.frames[0], None)
        self._infer()
        peaks["inference"] = peak_memory_gib(self.device)
        if self.config.train:
            reset_peak_memory(self.device)
            progress("warm-up: training")
            self._train()
            peaks["training"] = peak_memory_gib(self.device)
        for watch in (self.whole, self.parts, self.step):
            watch.seconds.clear()
        return peaks

    def run(self) -> None:
        self._infer()
        if self.config.train:
            self._train()

    def _inference(self) -> Any:
        self.model.eval()
        return torch.no_grad()

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _infer(self) -> None:
        frame = self.frames[-1]
        with self._inference():
            with self._autocast(), self.whole.measure(FOLDED):
                self.model.image_features(frame.images)
            with self._autocast(), unfolded(self.model.backbone), self.whole.measure(UNIT):
                self.model.neck(self.model.backbone(frame.images.flatten(0, 1)))
            with self._autocast(), self.whole.measure(FORWARD):
                self.model(frame, self.previous)
            with self._autocast(), self.parts.modules({name: self.model.get_submodule(name) for name in PARTS}):
                output = self.model(frame, self.previous)
            with self.parts.measure("decode"):
                decode_boxes(output)
                decode_lines(output, self.model.size.pc_range)

    def _train(self) -> None:
        with self.whole.measure(STEP):
            with self.step.measure("history"), self._inference(), self._autocast():
                bev = None
                for frame in self.frames[len(self.frames) - self.config.queue_length : -1]:
                    bev = self.model.encode_bev(frame, bev)
            self.model.train()
            with self.step.measure("forward"), self._autocast():
                output = self.model(self.frames[-1], bev)
            with self.step.measure("matching_and_losses"):
                loss = torch.stack(list(self.criterion(output, self.targets).values())).sum()
            self.optimizer.zero_grad(set_to_none=True)
            with self.step.measure("backward"):
                loss.backward()
            with self.step.measure("optimizer"):
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), TrainConfig().max_grad_norm)
                self.optimizer.step()

    def result(self) -> dict[str, Any]:
        seconds, samples = self.whole.medians(), self.whole.seconds
        wholes = [name for name in (FORWARD, STEP) if name in seconds]
        return {
            "seconds": seconds,
            "seconds_per_frame": {name: value / self.config.batch for name, value in seconds.items()},
            "ratios": {name: median_ratio(samples[name], samples[UNIT]) for name in wholes},
            "ratios_to_folded": {name: median_ratio(samples[name], samples[FOLDED]) for name in wholes},
            "parts": self.parts.medians(),
            "training_parts": self.step.medians(),
            "samples": samples,
            "setting": self.config.model_dump(),
            "machine": _machine(self.device, torch.get_num_threads()),
        }


def _machine(device: torch.device, threads: int) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": device.type,
        "name": name,
        "threads": threads,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    """Model name of the CPU, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
