"""`VADCriterion`, replayed from CUDA graphs: its hundreds of kernels each take less time than their launch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from sead_ray.training.batch import BatchTargets
from sead_ray.training.criterion import Assigned, Predictions, VADCriterion
from sead_ray.training.forward import WARM_UP
from sead_ray.training.matching import Matches

N_PREDICTIONS = len(fields(Predictions))


class RecordedCriterion:
    """The criterion's terms as one tensor, and their names. Matching is computed anew each time, on the host."""

    def __init__(self, criterion: VADCriterion) -> None:
        self.criterion = criterion
        self.names: list[str] = []
        self._recorded: dict[tuple[torch.Size, ...], Any] = {}

    def __call__(self, found: Predictions, targets: BatchTargets) -> Tensor:
        """(terms,), in the order of `names`.

        Raises:
            FloatingPointError: the predictions are not finite.
        """
        with torch.autocast(found.class_logits.device.type, enabled=False):
            inputs = (*_tensors(found), *_tensors(self.criterion.assign(found, targets)))
            return self._recorded.get(_shapes(inputs), self.terms)(*inputs)

    def terms(self, *inputs: Tensor) -> Tensor:
        """`__call__`, computed here and now, from the tensors of `Predictions` and of `Assigned`."""
        found = Predictions(*(part.float() for part in inputs[:N_PREDICTIONS]))
        terms = self.criterion.terms(found, _assigned(inputs[N_PREDICTIONS:]))
        self.names = list(terms)
        return torch.stack(list(terms.values()))

    def record(self, found: Predictions, targets: BatchTargets) -> None:
        """Records terms and gradients on CUDA for batches of this shape, whatever they hold.

        Must come while no other thread uses CUDA.
        """
        leaves = Predictions(*(part.detach().clone().requires_grad_() for part in _tensors(found)))
        with torch.autocast(found.class_logits.device.type, enabled=False):
            inputs = (*_tensors(leaves), *_tensors(self.criterion.assign(found, targets)))
            recorded = torch.cuda.make_graphed_callables(
                self.terms, inputs, num_warmup_iters=WARM_UP, allow_unused_input=True
            )
        self._recorded[_shapes(inputs)] = recorded


def _tensors(value: Predictions | Assigned | Matches) -> list[Tensor]:
    """All of them, in the order of the fields."""
    found: list[Tensor] = []
    for field in fields(value):
        part = getattr(value, field.name)
        found += [part] if isinstance(part, Tensor) else _tensors(part)
    return found


def _assigned(tensors: tuple[Tensor, ...]) -> Assigned:
    """The inverse of `_tensors`."""
    left = iter(tensors)
    parts: dict[str, Any] = {
        field.name: Matches(*(next(left) for _ in fields(Matches))) if field.name in ("agents", "lines") else next(left)
        for field in fields(Assigned)
    }
    return Assigned(**parts)


def _shapes(inputs: tuple[Tensor, ...]) -> tuple[torch.Size, ...]:
    return tuple(part.shape for part in inputs)
