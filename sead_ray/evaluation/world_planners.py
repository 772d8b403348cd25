"""How much of the embedded world's planning needs eyes: planners that see nothing against one that knows everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sead_ray.evaluation.planning import HORIZONS_S, STEPS_PER_S
from sead_ray.evaluation.world_samples import Samples

HIDDEN, EPOCHS, BATCH, RATE = 256, 60, 256, 1e-3
BLIND, KNOWING = "ego-status MLP", "true agents and map"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlannerResult:
    """L2 in m at 1, 2, 3 s (VAD's convention: mean over the steps up to then), over all frames and over those of clips
    with manoeuvres."""

    name: str
    l2_m: tuple[float, ...]
    l2_manoeuvres_m: tuple[float, ...]

    @property
    def average_m(self) -> float:
        return float(np.mean(self.l2_m))

    @property
    def average_manoeuvres_m(self) -> float:
        return float(np.mean(self.l2_manoeuvres_m))


def compare(train: Samples, test: Samples, manoeuvres: set[int], seed: int = 0) -> list[PlannerResult]:
    """Constant velocity and an MLP on the ego's own status that corrects it; the roll-out of the true present and an
    MLP on true agents and map that corrects that. Both MLPs have the same layers, training and logs.

    Args:
        manoeuvres: clips of `test` in which the ego does more than drive straight on.
    """
    blind = _train(train.status, train.constant, train.driven, seed)
    knowing = _train(train.everything, train.rollout, train.driven, seed)
    plans = {
        "constant velocity": test.constant,
        BLIND: blind(test.status, test.constant),
        "true agents and map, not trained": test.rollout,
        KNOWING: knowing(test.everything, test.rollout),
    }
    chosen = np.isin(test.clip, sorted(manoeuvres))
    return [
        PlannerResult(name, _l2(plan, test.driven), _l2(plan[chosen], test.driven[chosen]))
        for name, plan in plans.items()
    ]


def gap(results: list[PlannerResult]) -> float:
    """Share of the ego-status MLP's error, in clips with manoeuvres, that knowing agents and map takes away."""
    by_name = {result.name: result.average_manoeuvres_m for result in results}
    return 1 - by_name[KNOWING] / by_name[BLIND]


def _l2(plan: Array, driven: Array) -> tuple[float, ...]:
    steps = np.linalg.norm(plan - driven, axis=-1)
    return tuple(float(steps[:, : STEPS_PER_S * second].mean()) for second in HORIZONS_S)


class _Planner:
    """Adds an MLP's correction, of standardised inputs, to a first plan."""

    def __init__(self, inputs: Array, outputs: int) -> None:
        self.mean, self.scale = inputs.mean(0), inputs.std(0) + 1e-3
        self.net = nn.Sequential(
            nn.Linear(inputs.shape[1], HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(HIDDEN, outputs),
        )

    def tensor(self, inputs: Array) -> Tensor:
        return torch.as_tensor(np.clip((inputs - self.mean) / self.scale, -8, 8), dtype=torch.float32)

    def __call__(self, inputs: Array, first: Array) -> Array:
        self.net.eval()
        with torch.no_grad():
            return first + self.net(self.tensor(inputs)).numpy().reshape(first.shape)


def _train(inputs: Array, first: Array, driven: Array, seed: int) -> _Planner:
    torch.manual_seed(seed)
    planner = _Planner(inputs, first[0].size)
    x = planner.tensor(inputs)
    y = torch.as_tensor((driven - first).reshape(len(first), -1), dtype=torch.float32)
    optimiser = torch.optim.AdamW(planner.net.parameters(), RATE, weight_decay=1e-2)
    steps = EPOCHS * (len(x) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = torch.Generator().manual_seed(seed)
    planner.net.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            error = (planner.net(x[rows]) - y[rows]).reshape(len(rows), -1, 2)
            loss = (error.square().sum(-1) + 1e-4).sqrt().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return planner
