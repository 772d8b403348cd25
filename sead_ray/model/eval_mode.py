"""A model in eval mode for a while."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Generator[None, None, None]:
    """`eval()` and back, with every part's flag as it was: frozen batch norms, and a user's frozen parts, stay in it.

    Past `nn.Module.train` and its attribute lookups, which take longer than the kernels of a small model do.
    """
    training = [part for part in model.modules() if part.training]
    for part in training:
        part.__dict__["training"] = False
    try:
        yield
    finally:
        for part in training:
            part.__dict__["training"] = True
