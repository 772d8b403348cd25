"""Where the model runs: on the CPU, or where SEAD_PARITY_DEVICE says; comparisons are always made on the CPU.

`SEAD_PARITY_DEVICE=cuda` takes Triton's sampling where Triton is installed, `SEAD_PARITY_OPERATOR=plain` the one of
`model/deformable.py` there too.
"""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import Any

import torch

from sead_ray.model import deformable

DEVICE = os.environ.get("SEAD_PARITY_DEVICE", "cpu")
OPERATOR = os.environ.get("SEAD_PARITY_OPERATOR", "auto")


def set_up() -> None:
    """Exact float32 on a GPU, and the operator asked for."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    assert OPERATOR in ("auto", "plain"), f"SEAD_PARITY_OPERATOR is {OPERATOR!r}; auto or plain"
    if OPERATOR == "plain":
        deformable._fused_operator = lambda *_: None  # ty: ignore[invalid-assignment]


def to_cpu(value: Any) -> Any:
    """Tensors, also inside lists, tuples and dataclasses; gradients flow back through the copy."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, list | tuple):
        return type(value)([to_cpu(part) for part in value])
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{part.name: to_cpu(getattr(value, part.name)) for part in fields(value)})
    return value
