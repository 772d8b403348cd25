"""The losses and their gradients as CUDA graphs: some eight hundred tiny kernels, replayed.

A recording has fixed shapes, so targets and matched pairs are filled up to a fixed number; the rare batch that has
more is computed as it comes. Costs and matching stay outside: the host solves them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sead_ray.targets import MAP_ORDERS
from sead_ray.training.batch import OF_AGENTS, OF_LINES, BatchTargets, TrainingBatch
from sead_ray.training.criterion import Predictions, VADCriterion
from sead_ray.training.matching import Matches

MOST_AGENTS, MOST_LINES = 96, 48  # of a sample, on the average of a batch
TARGETS = (*OF_AGENTS, *OF_LINES, "ego_future", "ego_mask", "command")
MATCHES = tuple(field.name for field in dataclasses.fields(Matches))


class TrainLoss:
    """`VADCriterion`'s terms as one tensor, (terms,), in the order of `names`; on CUDA from recordings."""

    def __init__(self, criterion: VADCriterion) -> None:
        self.criterion = criterion
        self.names: list[str] = []
        self._recorded: dict[tuple[int, ...], Any] = {}

    @property
    def is_recorded(self) -> bool:
        return bool(self._recorded)

    def __call__(self, found: Predictions, batch: BatchTargets) -> Tensor:
        device = found.boxes.device
        with torch.autocast(device.type, enabled=False):
            samples, queries, lines = found.boxes.shape[1], found.boxes.shape[2], found.map_points.shape[2]
            recorded = self._recorded.get((samples, queries, lines)) if fits(batch) else None
            if recorded is None:
                terms = self.criterion(found, batch)
                self.names = list(terms)
                return torch.stack(list(terms.values()))
            batch = batch.filled(MOST_AGENTS, MOST_LINES)  # nothing where the loader's side has done so
            matches = self.criterion.match(found, batch, pairs(samples, queries, lines))
            return recorded(*_flat(found), *_arguments(batch, matches.agents, matches.lines, matches.order))

    def record(self, found: Predictions) -> None:
        """For predictions of this shape, whatever they hold; conditions as `TrainForward.record`."""
        layers, samples, queries = found.boxes.shape[:3]
        lines, points = found.map_points.shape[2:4]
        device, steps = found.boxes.device, found.plans_m.shape[2]
        leaves = [part.detach().clone().requires_grad_() for part in _flat(found)]
        targets = _blank_targets(samples, steps, points, device)
        n_agents, n_lines = pairs(samples, queries, lines)
        agents, of_lines = (_blank_matches(layers, samples, count, device) for count in (n_agents, n_lines))
        order = torch.zeros(layers, n_lines, dtype=torch.int64, device=device)
        arguments = (*leaves, *_arguments(targets, agents, of_lines, order))
        self._recorded[(samples, queries, lines)] = torch.cuda.make_graphed_callables(self.run, arguments)

    def run(self, *parts: Tensor) -> Tensor:
        """The terms of flat arguments: predictions, targets, matches of agents and of lines, order of the lines."""
        sizes = (len(dataclasses.fields(Predictions)), len(TARGETS), len(MATCHES), len(MATCHES), 1)
        start, groups = 0, []
        for size in sizes:
            groups.append(parts[start : start + size])
            start += size
        none = parts[0].new_empty(0)
        batch = BatchTargets(
            n_agents=[], n_lines=[], agent_index=none, line_index=none, **dict(zip(TARGETS, groups[1]))
        )
        terms = self.criterion.terms(
            Predictions(*groups[0]), batch, Matches(*groups[2]), Matches(*groups[3]), groups[4][0]
        )
        self.names = list(terms)
        return torch.stack(list(terms.values()))


def fits(batch: BatchTargets) -> bool:
    samples = len(batch.n_agents)
    return sum(batch.n_agents) <= MOST_AGENTS * samples and sum(batch.n_lines) <= MOST_LINES * samples


def ready(batch: TrainingBatch) -> TrainingBatch:
    """The batch with its targets filled up for a recording, where it fits one; for the loader's side."""
    if not fits(batch.targets):
        return batch
    return dataclasses.replace(batch, targets=batch.targets.filled(MOST_AGENTS, MOST_LINES))


def pairs(samples: int, queries: int, lines: int) -> list[int]:
    """Pairs of agents and of lines in a recording."""
    return [samples * min(queries, MOST_AGENTS), samples * min(lines, MOST_LINES)]


def _flat(found: Predictions) -> list[Tensor]:
    return [getattr(found, field.name) for field in dataclasses.fields(found)]


def _arguments(batch: BatchTargets, agents: Matches, lines: Matches, order: Tensor) -> list[Tensor]:
    of_matches = [getattr(matches, name) for matches in (agents, lines) for name in MATCHES]
    return [*(getattr(batch, name) for name in TARGETS), *of_matches, order]


def _blank_targets(samples: int, steps: int, points: int, device: torch.device) -> BatchTargets:
    def none(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=device)

    index = torch.int64
    return BatchTargets(
        n_agents=[0] * samples,
        n_lines=[0] * samples,
        labels=none(0, dtype=index),
        box_codes=none(0, 10),
        futures=none(0, steps, 2),
        future_masks=none(0, steps),
        line_labels=none(0, dtype=index),
        line_points_m=none(0, MAP_ORDERS, points, 2),
        ego_future=none(samples, steps, 2),
        ego_mask=none(samples, steps),
        command=none(samples, dtype=index),
        agent_index=none(samples, 0, dtype=index),
        line_index=none(samples, 0, dtype=index),
    ).filled(MOST_AGENTS, MOST_LINES)


def _blank_matches(layers: int, samples: int, count: int, device: torch.device) -> Matches:
    def none(*shape: int) -> Tensor:
        return torch.zeros(*shape, dtype=torch.int64, device=device)

    positives = torch.ones(samples, dtype=torch.int64, device=device)
    return Matches(none(count), none(layers, count), none(layers, count), none(layers, count), positives, none(count))
