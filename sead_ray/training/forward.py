"""The part of a training step that a network does: a queue of frames to what the losses read.

On CUDA the whole of it, forward and backward, is recorded once for each shape of the batch and replayed: some five
thousand kernels, most of which take less time than their launch.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sead_ray.model.contract import FrameBatch
from sead_ray.model.eval_mode import eval_mode
from sead_ray.model.vad import VAD
from sead_ray.nuscenes.images import ImageGeometry
from sead_ray.records import CAMERAS
from sead_ray.training.augment import draw
from sead_ray.training.batch import TrainingBatch
from sead_ray.training.criterion import Predictions
from sead_ray.training.images import prepare_images

Precision = Literal["fp32", "bf16"]
CAN_VALUES = 18
OUTPUTS = tuple(field.name for field in fields(Predictions))
# Which dimension of each is the samples.
INPUT_SAMPLES = (1, 1, 1, 1, 0, 0)
OUTPUT_SAMPLES = tuple(0 if name in ("mode_offsets", "mode_logits", "plans_m") else 1 for name in OUTPUTS)
WARM_UP = 3  # runs before a recording: cuDNN chooses its kernels, Triton compiles its own


def precision_on(device: torch.device, wanted: Literal["auto", "fp32", "bf16"]) -> Precision:
    """What `train.precision` means on a device: auto is bf16 on CUDA, fp32 elsewhere."""
    if wanted == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    return wanted


def lay_out(model: VAD, precision: Precision, device: torch.device) -> None:
    """The image network's weights as cuDNN takes them in half precision: a pixel's channels side by side."""
    if device.type == "cuda" and precision == "bf16":
        for part in (model.backbone, model.neck):
            part.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]


class TrainForward(nn.Module):
    """Images of a queue to the tensors of `Predictions`, in the order of its fields.

    The history is in eval mode and without gradients (VAD). Its BEV is recurrent, but its images are independent of
    each other: backbone and neck take all of its frames and cameras as one batch.
    """

    def __init__(self, model: VAD, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self.precision = precision
        self._recorded: dict[Any, tuple[int, Any]] = {}

    def forward(
        self, images: Tensor, lidar2img: Tensor, can_bus: Tensor, valid_height: int, *draws: Tensor
    ) -> tuple[Tensor, ...]:
        """images (Q, B, K, H, W, 3) uint8; lidar2img (Q, B, K, 4, 4); can_bus (Q, B, 18); draws: of `augment.Draws`,
        or none."""
        inputs, samples = (images, lidar2img, can_bus, *draws), images.shape[1]
        size, recorded = self._recorded.get(_kind(inputs, valid_height), (0, None))
        if not self.training or recorded is None or samples > size or (samples < size and trains_norms(self)):
            return self.run(*inputs, valid_height=valid_height)
        if samples == size:
            return recorded(*inputs)
        # An epoch's last batch is filled up with its last sample; the copies' outputs are cut off, their gradient is 0.
        chosen = torch.arange(size, device=images.device).clamp(max=samples - 1)
        filled = (part.index_select(dim, chosen) for part, dim in zip(inputs, INPUT_SAMPLES))
        return tuple(part.narrow(dim, 0, samples) for part, dim in zip(recorded(*filled), OUTPUT_SAMPLES))

    def run(
        self, images: Tensor, lidar2img: Tensor, can_bus: Tensor, *draws: Tensor, valid_height: int
    ) -> tuple[Tensor, ...]:
        """`forward`, computed here and now."""
        colours, *grid = draws or (None,)
        history = self._history(images[:-1], lidar2img[:-1], can_bus[:-1], colours, valid_height)
        current = None if colours is None else colours[-1]
        rows_and_columns = (grid[0], grid[1]) if grid else None
        pixels = prepare_images(images[-1], valid_height, current, rows_and_columns, self._image_type())
        with self._autocast():
            output = self.model(FrameBatch(pixels, lidar2img[-1], can_bus[-1]), history)
        return tuple(getattr(output, name) for name in OUTPUTS)

    def _history(
        self, images: Tensor, lidar2img: Tensor, can_bus: Tensor, colours: Tensor | None, valid_height: int
    ) -> Tensor | None:
        """(B, Q, C) the BEV of the frame before the last; None in a queue of one."""
        steps, bev = len(images), None
        if not steps:
            return None
        # An autocast of its own: casts of weights that it keeps from a part without gradients would have none later.
        with torch.no_grad(), eval_mode(self.model), self._autocast():
            distorted = None if colours is None else colours[:-1].flatten(0, 1)
            pixels = prepare_images(images.flatten(0, 1), valid_height, distorted, None, self._image_type())
            levels = self.model.image_features(pixels)
            of_step = [level.chunk(steps) for level in levels]
            for step, frame in enumerate(pixels.chunk(steps)):
                features = [level[step] for level in of_step]
                bev = self.model.encode(features, FrameBatch(frame, lidar2img[step], can_bus[step]), bev)
        return bev

    def record(self, inputs: tuple[Tensor, ...], valid_height: int) -> None:
        """Records forward and backward on CUDA for inputs (`inputs_of`) of this shape, whatever they hold.

        Smaller batches use the recording too, except where batch norms train: they would count what fills them up.
        Must come before the module is wrapped for a gradient exchange, and while no other thread uses CUDA.
        """
        program = _Program(self, valid_height).train()
        with unchanged_buffers(self.model):
            recorded = torch.cuda.make_graphed_callables(
                program, inputs, num_warmup_iters=WARM_UP, allow_unused_input=True
            )
        self._recorded[_kind(inputs, valid_height)] = inputs[0].shape[1], recorded

    def _autocast(self) -> AbstractContextManager[None]:
        kind = next(self.model.parameters()).device.type
        return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")

    def _image_type(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def inputs_of(batch: TrainingBatch) -> tuple[Tensor, ...]:
    """The tensors that `TrainForward` takes, the valid height left out."""
    draws = batch.draws
    assert isinstance(batch.images, Tensor)  # decoded
    extra = () if draws is None else (draws.colours, draws.rows, draws.columns)
    return (batch.images, batch.lidar2img, batch.can_bus, *extra)


def predictions(forward: nn.Module, batch: TrainingBatch) -> Predictions:
    """Of `TrainForward`, or of what wraps it."""
    images, lidar2img, can_bus, *draws = inputs_of(batch)
    return Predictions(*forward(images, lidar2img, can_bus, batch.valid_height, *draws))


def blank_inputs(
    steps: int, samples: int, geometry: ImageGeometry, augment: bool, device: torch.device
) -> tuple[Tensor, ...]:
    """Inputs of the shape that a batch of such images has."""
    height, width = geometry.padded_height, geometry.width
    cameras = len(CAMERAS)
    draws = draw(steps, samples, cameras, height, width, torch.Generator().manual_seed(0)) if augment else None
    extra = () if draws is None else (draws.colours, draws.rows, draws.columns)
    parts = (
        torch.zeros(steps, samples, cameras, height, width, 3, dtype=torch.uint8),
        torch.zeros(steps, samples, cameras, 4, 4),
        torch.zeros(steps, samples, CAN_VALUES, dtype=torch.float64),
        *extra,
    )
    return tuple(part.to(device) for part in parts)


class _Program(nn.Module):
    """What is recorded: tensors in, tensors out; the model's parameters are its own."""

    def __init__(self, owner: TrainForward, valid_height: int) -> None:
        super().__init__()
        self.model = owner.model
        self.__dict__["owner"] = owner  # no submodule: it holds the recordings
        self.valid_height = valid_height

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.__dict__["owner"].run(*inputs, valid_height=self.valid_height)


@contextmanager
def unchanged_buffers(module: nn.Module) -> Generator[None]:
    """All buffers are afterwards what they were before: what batch norms count within the block is forgotten."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)


def trains_norms(module: nn.Module) -> bool:
    """Whether it has batch norms in training mode."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training for part in module.modules())


def _kind(inputs: tuple[Tensor, ...], valid_height: int) -> tuple[Any, ...]:
    """The shapes without the number of samples."""
    shapes = ((*part.shape[:dim], *part.shape[dim + 1 :]) for part, dim in zip(inputs, INPUT_SAMPLES))
    return (valid_height, *shapes)
