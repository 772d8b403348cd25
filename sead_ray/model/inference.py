"""A model made ready for inference on one device: norms folded for good, half precision, CUDA graphs.

A frame of VAD is some two thousand kernels, most of which take less time than their launch. On CUDA they are recorded
once for each shape of the batch, and replayed with one call; on a CPU the model runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sead_ray.model.contract import BasePlanner, FrameBatch, PlannerOutput
from sead_ray.model.folding import fold_for_good

Precision = Literal["fp32", "bf16"]
WARM_UP = 3  # calls before the recording: cuDNN chooses its kernels, Triton compiles its own


class InferenceModel:
    """A base model that takes over where training ended: called like it, without gradients.

    The output's tensors belong to the model and are overwritten by the next call of the same shape; what has been
    enqueued on the current stream before that call still reads the old values. `history` may be such an output.

    Args:
        model: on its device; is changed (`fold_for_good`, eval mode) and must not be trained or saved afterwards.
        precision: fp32, or bf16 for matrix products and convolutions (autocast).
        graphs: whether to record CUDA graphs; None: on CUDA.
    """

    def __init__(self, model: Any, precision: Precision = "fp32", graphs: bool | None = None) -> None:
        assert isinstance(model, nn.Module)
        parameter = next(model.parameters())
        self.device, self.precision = parameter.device, precision
        self.planner: BasePlanner = model
        self._graphs: dict[tuple[Any, ...], _Recording] = {}
        self._record = self.device.type == "cuda" if graphs is None else graphs
        fold_for_good(model)
        model.eval().requires_grad_(False)
        if self.device.type == "cuda":
            model.to(memory_format=torch.channels_last)
            self._pool = torch.cuda.graph_pool_handle() if self._record else None

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
        # Inside a recording autocast may not keep casts from call to call: their memory is the recording's.
        half = self.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=not self._record):
            extra = () if has_history is None else (has_history,)
            return self.planner(FrameBatch(images, lidar2img, can_bus), history, *extra)  # ty: ignore[too-many-positional-arguments]


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
        with torch.cuda.graph(self._graph, pool=pool):
            self._output = run(*self._inputs)
        torch.backends.cudnn.benchmark = benchmark

    def __call__(self, *inputs: Tensor | None) -> PlannerOutput:
        for mine, theirs in zip(self._inputs, inputs, strict=True):
            if mine is not None and theirs is not None:
                mine.copy_(theirs, non_blocking=True)
        self._graph.replay()
        return self._output
