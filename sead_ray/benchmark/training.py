"""Figures of training: the step alone on data in the device's memory, its split and arithmetic; rows of a table."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sead_ray.benchmark.inputs import random_frame, random_targets
from sead_ray.benchmark.timing import StageClock, Stopwatch, reserved_gib, reset_peak_memory
from sead_ray.config import ImageConfig, ModelConfig, Schema, TrainConfig
from sead_ray.model.presets import resolve
from sead_ray.model.vad import VAD
from sead_ray.training.augment import draw
from sead_ray.training.batch import BatchTargets, TrainingBatch
from sead_ray.training.criterion import VADCriterion
from sead_ray.training.forward import TrainForward, inputs_of, lay_out, precision_on, predictions
from sead_ray.training.optim import build_optimizer
from sead_ray.training.recorded_criterion import RecordedCriterion

PARTS = ("forward", "loss and matching", "backward", "optimiser")
# Dense bfloat16, TFLOP/s, by the vendor's datasheets; the longest name that fits counts.
PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "H100 PCIe": 756.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
}


class TrainingBenchConfig(Schema):
    """What is measured. A world of full-size images is generated for it, unless it is there."""

    root: str = "data/bench_training"
    """Data root where the scenes are generated."""
    run_dir: str = "runs/bench_training"
    """Where clips, labels and trained models are written; kept for the next time."""
    scenes: int = Field(default=16, ge=4)
    scene_frames: int = Field(default=12, ge=8)
    image_width: int = Field(default=1600, ge=64)
    image_height: int = Field(default=900, ge=36)
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    pretrained: bool = True
    """A model as with ImageNet weights: batch norms, frozen. Off: GroupNorm."""
    train: TrainConfig = TrainConfig()
    """Precision, queue, augmentation, GPUs and loader of the trainings measured."""
    batches: list[int] = Field(default=[1, 2, 4, 8, 16])
    """Samples of a worker in a step, for the step alone; those that do not fit are left out."""
    alone: bool = True
    """Measure the step alone."""
    workers: list[int] = Field(default=[1])
    """Training workers (GPUs) of each end-to-end measurement; []: none."""
    batch: int | None = Field(default=None, ge=1)
    """Samples of a worker in a step end to end; None: the fastest of `batches`, or 8."""
    same_global_batch: bool = False
    """Divide `batch` among the workers, instead of giving it to each: for loss curves that can be compared."""
    steps: int = Field(default=80, ge=2)
    """Of each end-to-end training."""
    decode_always: bool = True
    """End to end without a cache of decoded images, as with a data set that is larger than memory."""
    repeats: int = Field(default=20, ge=1)
    """Steps alone, after the warm-up."""
    seed: int = 0


def training_model(config: TrainingBenchConfig) -> VAD:
    """At random."""
    size = resolve(config.model)
    if config.pretrained and "norm" not in config.model.overrides:
        size = dataclasses.replace(size, norm="BN")
    torch.manual_seed(config.seed)
    return VAD(size, pretrained_backbone=config.pretrained and size.norm == "BN")


def random_batch(config: TrainingBenchConfig, samples: int, device: torch.device) -> TrainingBatch:
    """Noise with nuScenes' calibration and plausible labels, of the size that images of the configuration have."""
    scale = config.image.width / config.image_width
    valid_height = round(config.image_height * scale)
    height, width = -(-valid_height // 32) * 32, config.image.width
    steps = config.train.queue_length
    generator = torch.Generator().manual_seed(config.seed)
    frames = [random_frame(samples, 32, width, config.seed + step, first=step == 0) for step in range(steps)]
    shape = (steps, samples, frames[0].lidar2img.shape[1], height, width, 3)
    return TrainingBatch(
        images=torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        lidar2img=torch.stack([frame.lidar2img for frame in frames]),
        can_bus=torch.stack([frame.can_bus for frame in frames]).double(),
        valid_height=valid_height,
        targets=BatchTargets.from_frames([random_targets(config.seed + index) for index in range(samples)]),
        draws=draw(steps, samples, shape[2], height, width, generator) if config.train.augment else None,
    ).to(device)


class StepBench:
    """One model with its optimiser, and a batch that is on the device."""

    def __init__(self, config: TrainingBenchConfig, samples: int, device: torch.device) -> None:
        self.config, self.device, self.samples = config, device, samples
        reset_peak_memory(device)
        self.model = training_model(config).to(device)
        self.forward = TrainForward(self.model, precision_on(device, config.train.precision)).train()
        lay_out(self.model, self.forward.precision, device)
        self.criterion = RecordedCriterion(VADCriterion(config.train.loss_preset, self.model.size.pc_range))
        self.optimizer = build_optimizer(self.model, config.train, self.model.pretrained_backbone)
        self.batch = random_batch(config, samples, device)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = not config.train.deterministic
            if not config.train.deterministic:
                self.forward.record(inputs_of(self.batch), self.batch.valid_height)
                self.criterion.record(predictions(self.forward, self.batch), self.batch.targets)

    def step(self, mark: Callable[[str], None] = lambda _: None) -> Tensor:
        mark("start")
        found = predictions(self.forward, self.batch)
        mark("forward")
        total = self.criterion(found, self.batch.targets).sum()
        mark("loss and matching")
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        mark("backward")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.max_grad_norm)
        self.optimizer.step()
        mark("optimiser")
        return total.detach()

    def measure(self) -> dict[str, Any]:
        """Medians over `repeats` steps."""
        watch = Stopwatch(self.device)
        for _ in range(3):
            self.step()
        parts: dict[str, list[float]] = {}
        for _ in range(self.config.repeats):
            with watch.measure("step"):
                clock = StageClock(self.device.type)
                self.step(clock.mark)
                for name, seconds in clock.totals().items():
                    parts.setdefault(name, []).append(seconds)
        seconds = watch.medians()["step"]
        return {
            "batch": self.samples,
            "ms_per_sample": 1000 * seconds / self.samples,
            "samples_per_s": self.samples / seconds,
            "ms_per_sample_by_part": {
                name: 1000 * statistics.median(parts[name]) / self.samples for name in PARTS if name in parts
            },
            "peak_memory_gib": reserved_gib(self.device),
        }


def flops_per_sample(config: TrainingBenchConfig, device: torch.device) -> float:
    """Of matrix products, convolutions and attention, forward and backward, history included."""
    model = training_model(config).to(device)
    forward = TrainForward(model, precision_on(device, config.train.precision)).train()
    batch = random_batch(config, 1, device)
    with FlopCounterMode(display=False) as counter:
        found = predictions(forward, batch)
        total = torch.stack(list(VADCriterion(config.train.loss_preset)(found, batch.targets).values())).sum()
        total.backward()
    return float(counter.get_total_flops())


def bench_steps(config: TrainingBenchConfig, device: torch.device, show: Callable[[str], None]) -> dict[str, Any]:
    """The step alone at each batch size, and its arithmetic."""
    flops = flops_per_sample(config, device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    peak = peak_flops(name)
    rows = []
    for samples in config.batches:
        try:
            row = StepBench(config, samples, device).measure()
        except torch.OutOfMemoryError:
            show(f"batch {samples} does not fit")
            break
        finally:
            if device.type == "cuda":
                torch.cuda.empty_cache()
        row["flops_share"] = flops * row["samples_per_s"] / peak if peak else None
        rows.append(row)
        show(f"batch {samples}: {row['ms_per_sample']:.1f} ms a sample")
    return {
        "device_name": name,
        "precision": precision_on(device, config.train.precision),
        "gflops_per_sample": flops / 1e9,
        "peak_tflops": peak / 1e12 if peak else None,
        "steps_alone": rows,
    }


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a GPU by its name; None where it is not known."""
    fitting = [name for name in PEAK_TFLOPS if all(word in device_name.split() for word in name.split())]
    return PEAK_TFLOPS[max(fitting, key=len)] * 1e12 if fitting else None


def markdown(result: dict[str, Any]) -> str:
    """Two tables: the step alone by batch size, and end to end by workers."""
    machine = f"{result.get('device_name', '-')}, {result['cpus']:.0f} CPUs"
    blocks = [
        f"{result['date']}, {result['model']}, queue of {result['queue_length']}, {machine}: `{result['command']}`"
    ]
    alone = [_alone_cells(row) for row in result.get("steps_alone", [])]
    through = [_end_to_end_cells(row, result["end_to_end"][0]) for row in result["end_to_end"]]
    blocks += [_table(rows) for rows in (alone, through) if rows]
    return "\n\n".join(blocks)


def _alone_cells(row: dict[str, Any]) -> dict[str, str]:
    share = row.get("flops_share")
    return {
        "step alone, batch": str(row["batch"]),
        "ms a sample": f"{row['ms_per_sample']:.1f}",
        **{name: f"{value:.1f}" for name, value in row["ms_per_sample_by_part"].items()},
        "of the peak FLOP/s": "-" if share is None else f"{share:.1%}",
        "GiB": f"{row['peak_memory_gib']:.1f}",
    }


def _end_to_end_cells(row: dict[str, Any], base: dict[str, Any]) -> dict[str, str]:
    gpu = row["gpu"]
    return {
        "end to end, workers": str(row["workers"]),
        "batch": f"{row['batch']:g}",
        "samples/s": f"{row['samples_per_s']:.1f}",
        "ms a sample": f"{row['ms_per_sample']:.1f}",
        "times the first row": f"{row['samples_per_s'] / base['samples_per_s']:.2f}",
        "waiting for data": f"{row['waiting_for_data']:.0%}",
        "GPU busy": f"{gpu['utilisation_percent']:.0f} %" if gpu else "-",
        "GiB": f"{row['peak_memory_gib']:.1f}",
        "start-up, s": f"{row['start_s']:.0f}",
    }


def _table(rows: list[dict[str, str]]) -> str:
    lines = (rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
