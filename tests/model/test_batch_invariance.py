"""A batch of B is B batches of one: outputs, losses, gradients; with a history, without, and mixed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.presets import PRESETS, VADSize
from sead_ray.model.vad import VAD
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS, FrameTargets
from sead_ray.training.criterion import VADCriterion
from tests.model.small_vad import QUIRKS, SMALL, frames, fresh, per_sample, pick

TOLERANCE = 1e-5
# Upstream's levels, and more than one point per pillar height.
LEVELS = dataclasses.replace(QUIRKS, backbone_out=(1, 2, 3), feature_levels=4, level_embed_rows=4, spatial_points=8)
SIZES = {"corrected": SMALL, "quirks": QUIRKS, "quirks_4_levels": LEVELS}
HISTORIES = ("without", "with", "mixed")

by_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def lively(size: VADSize) -> VAD:
    """A model whose offsets, attention and residual branches have left the constants that they start at."""
    model = fresh(size)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def histories(model: VAD, batch: int, kind: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(history, has_history); where a clip has none, its row is not a number, so that any use of it shows."""
    if kind == "without":
        return None, None
    with torch.no_grad():
        history = model.encode_bev(frames(batch, 31), None)
    if kind == "with":
        return history, None
    has_history = torch.arange(batch) % 2 == 1
    history[~has_history] = torch.nan
    return history, has_history


def alone(
    model: VAD, frame: FrameBatch, index: int, history: torch.Tensor | None, has: torch.Tensor | None
) -> VADOutput:
    begins = history is None or (has is not None and not has[index])
    return model(pick(frame, index), None if begins or history is None else history[index : index + 1])


@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("batch", [2, 3, 5])
@by_size
@torch.no_grad()
def test_outputs_equal_single_runs(size: VADSize, batch: int, kind: str) -> None:
    model, frame = lively(size), frames(batch, 32)
    history, has_history = histories(model, batch, kind)
    together = model(frame, history, has_history)
    for index in range(batch):
        single = per_sample(alone(model, frame, index, history, has_history), 0)
        for name, value in per_sample(together, index).items():
            torch.testing.assert_close(
                value, single[name], rtol=TOLERANCE, atol=TOLERANCE, msg=lambda text, name=name: f"{name}: {text}"
            )


def random_targets(size: VADSize, seed: int) -> FrameTargets:
    rng = np.random.default_rng(seed)
    agents, lines = int(rng.integers(0, 6)), int(rng.integers(0, 4))
    boxes = np.zeros((agents, 9), np.float32)
    boxes[:, :2] = rng.uniform((-13, -27), (13, 27), (agents, 2))
    boxes[:, 3:6], boxes[:, 6] = rng.uniform(0.5, 5, (agents, 3)), rng.uniform(-3, 3, agents)
    attributes = np.zeros((agents, 34), np.float32)
    attributes[:, :12] = rng.normal(0, 1, (agents, 12))
    attributes[:, 12:18] = np.arange(6) < rng.integers(0, 7, (agents, 1))
    points = np.full((lines, MAP_ORDERS, size.map_points, 2), MAP_ORDER_FILL, np.float32)
    points[:, 0] = rng.uniform((-15, -30), (15, 30), (lines, size.map_points, 2))
    points[:, 1] = points[:, 0, ::-1]
    return FrameTargets(
        boxes=boxes,
        labels=rng.integers(0, size.agent_classes, agents),
        attributes=attributes,
        map_points=points,
        map_labels=rng.integers(0, size.map_classes, lines),
        ego_future=rng.normal(0, 2, (6, 2)).astype(np.float32),
        ego_future_mask=np.ones(6, np.float32),
        command=int(rng.integers(0, 3)),
        future_valid=True,
    )


def gradients(model: VAD, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("name", ["corrected", "quirks"])
def test_gradient_is_the_mean_of_single_runs(name: str, batch: int, kind: str) -> None:
    """Clips differ in calibration, motion and number of targets. Without dropout, which is drawn anew for each run.

    The frames' seed is one at which no ReLU, nearest point or threshold of a loss lies within rounding of its kink,
    where the gradient jumps and batch and single runs may come down on either side.
    """
    size = SIZES[name]
    model, frame, criterion = lively(size), frames(batch, 36), VADCriterion("e2e")
    targets = [random_targets(size, 40 + index) for index in range(batch)]
    history, has_history = histories(model, batch, kind)
    together = gradients(model, sum(criterion(model(frame, history, has_history), targets).values()))
    total: dict[str, torch.Tensor] = {}
    for index, target in enumerate(targets):
        output = alone(model, frame, index, history, has_history)
        for key, value in gradients(model, sum(criterion(output, [target]).values())).items():
            total[key] = total.get(key, torch.zeros(())) + value / batch
    assert together.keys() == total.keys()
    for key, value in together.items():
        difference, length = float((value - total[key]).norm()), float(total[key].norm())
        # rounding may put one coordinate on the other side of its L1 term's kink: that alone is worth 1e-3
        assert difference <= 3e-3 * length + 1e-6, f"{key} is off by {difference:.2e} of {length:.2e}"


@torch.no_grad()
def test_vad_tiny_on_small_images() -> None:
    """The published size as it is initialised. 1e-5 of an output's largest value: over half a million features the
    kernels' float noise, which a batch shares out differently, reaches some 1e-5 where a feature is near 0."""
    model, frame = fresh(PRESETS["vad_tiny"]), frames(2, 34)
    history, has_history = histories(model, 2, "mixed")
    together = model(frame, history, has_history)
    for index in range(2):
        single = per_sample(alone(model, frame, index, history, has_history), 0)
        for name, value in per_sample(together, index).items():
            largest = max(1.0, float(single[name].abs().max()))
            torch.testing.assert_close(
                value, single[name], rtol=0, atol=TOLERANCE * largest, msg=lambda text, name=name: f"{name}: {text}"
            )
