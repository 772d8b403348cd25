"""A model made ready for inference on one device: norms folded for good, half precision, CUDA graphs.

A frame of VAD is some two thousand kernels, most of which take less time than their launch. On CUDA they are recorded
once for each shape of the batch, and replayed with one call; on a CPU the model runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sead_ray.model.contract import BasePlanner, FrameBatch, PlannerOutput
from sead_ray.model.folding import fold_for_good
from sead_ray.model.fused_resnet import fuse_resnet

Precision = Literal["fp32", "mixed", "bf16"]
Wanted = Literal["auto", "fp32", "mixed", "bf16"]
WARM_UP = 3  # calls before the recording: cuDNN chooses its kernels, Triton compiles its own


def precision_on(device: str, wanted: Wanted) -> Precision:
    """What a configured precision means on a device: auto is mixed on CUDA, fp32 elsewhere."""
    if wanted == "auto":
        return "mixed" if torch.device(device).type == "cuda" else "fp32"
    return wanted


class InferenceModel:
    """A base model that takes over where training ended: called like it, without gradients.

    The output's tensors belong to the model and are overwritten by the next call of the same shape; what has been
    enqueued on the current stream before that call still reads the old values. `history` may be such an output.

    Args:
        model: on its device; is changed (`fold_for_good`, eval mode) and must not be trained or saved afterwards.
        precision: fp32; mixed: the image network in bf16, what follows in float32 with TF32 products on CUDA; bf16:
            all matrix products and convolutions.
    """

    def __init__(self, model: Any, precision: Precision = "fp32") -> None:
        assert isinstance(model, nn.Module)
        parameter = next(model.parameters())
        self.device, self.precision = parameter.device, precision
        self.planner: BasePlanner = model
        self._graphs: dict[tuple[Any, ...], _Recording] = {}
        self._record = self.device.type == "cuda"
        self._pool = torch.cuda.graph_pool_handle() if self._record else None
        model.eval().requires_grad_(False)
        fold_for_good(model)
        if precision != "fp32":
            _shorten_image_network(model)

    @property
    def bev_hw(self) -> tuple[int, int]:
        return self.planner.bev_hw

    @torch.inference_mode()
    def __call__(self, frame: FrameBatch, history: Tensor | None, has_history: Tensor | None = None) -> PlannerOutput:
        inputs = (frame.images, frame.lidar2img, frame.can_bus, history, has_history)
        if not self._record:
            return self._run(*inputs)
        key = tuple(None if part is None else (tuple(part.shape), part.dtype) for part in inputs)
        if key not in self._graphs:
            self._graphs[key] = _Recording(self._run, inputs, self._pool)
        return self._graphs[key](*inputs)

    def _run(
        self,
        images: Tensor,
        lidar2img: Tensor,
        can_bus: Tensor,
        history: Tensor | None,
        has_history: Tensor | None,
    ) -> PlannerOutput:
        with _products(self.device, self.precision):
            extra = () if has_history is None else (has_history,)
            return self.planner(FrameBatch(images, lidar2img, can_bus), history, *extra)  # ty: ignore[too-many-positional-arguments]


@contextmanager
def _products(device: torch.device, precision: Precision) -> Generator[None, None, None]:
    """How matrix products and convolutions are computed within."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = precision != "fp32"
    try:
        # A recording may not keep casts from call to call, as autocast does: their memory is the recording's.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            yield
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value


def _shorten_image_network(model: nn.Module) -> None:
    """Backbone and neck in bf16, on CUDA with fused convolutions where that is possible."""
    for name in ("backbone", "neck"):
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            if next(part.parameters()).device.type == "cuda":
                part.to(memory_format=torch.channels_last)
                fuse_resnet(part, torch.bfloat16)
            setattr(model, name, _InHalf(part))


class _InHalf(nn.Module):
    """A network that computes in bf16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        kind = (x if isinstance(x, Tensor) else x[0]).device.type
        if isinstance(x, Tensor) and kind == "cuda":
            x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        with torch.autocast(kind, torch.bfloat16, cache_enabled=False):
            return self.network(x)


class _Recording:
    """One CUDA graph: fixed addresses for inputs and outputs."""

    def __init__(self, run: Callable[..., PlannerOutput], inputs: tuple[Tensor | None, ...], pool: Any) -> None:
        self._inputs = tuple(None if part is None else part.clone() for part in inputs)
        benchmark = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                run(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # The next frames are copied to the device by another thread meanwhile: only this one's calls are recorded.
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = run(*self._inputs)
        torch.backends.cudnn.benchmark = benchmark

    def __call__(self, *inputs: Tensor | None) -> PlannerOutput:
        for mine, theirs in zip(self._inputs, inputs, strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs, non_blocking=True)
        self._graph.replay()
        return self._output
