"""The planning losses and their gradients, case by case, and as a batch."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from sead_ray.training import planning_losses
from sead_ray.training.criterion import LOSS_PRESETS, PC_RANGE
from sead_ray.training.losses import denormalise_points
from tests.parity.archive import ARCHIVES, Archive
from tests.parity.runs import STAGE

FILE = "plan_losses.npz"
TOLERANCE = 1e-5
GRADIENTS = {"grad_ego": "ego_fut_preds", "grad_lane": "lane_preds", "grad_agent_pos": "agent_preds"}
INPUTS = {
    *GRADIENTS.values(),
    "ego_fut_gt",
    "ego_fut_masks",
    "ego_fut_cmd",
    "lane_score_preds",
    "agent_fut_preds",
    "agent_score_preds",
    "agent_fut_cls_preds",
}
BATCH = r"values_batch_first(\d+)"


@cache
def inputs(archive: Archive) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(archive.array(FILE, name)).clone() for name in sorted(INPUTS)}
    for name in GRADIENTS.values():
        tensors[name].requires_grad_(True)
    return tensors


def values(archive: Archive, rows: slice = slice(None)) -> dict[str, Tensor]:
    """Each loss under upstream's name, (cases,), with the stage's weight."""
    given = {name: value[rows] for name, value in inputs(archive).items()}
    weights, mask, command = LOSS_PRESETS[STAGE], given["ego_fut_masks"], given["ego_fut_cmd"].argmax(-1)
    plan = planning_losses.select_plan(given["ego_fut_preds"], command)
    lines = denormalise_points(given["lane_preds"], PC_RANGE)
    agents = [given[name] for name in ("agent_preds", "agent_fut_preds", "agent_score_preds", "agent_fut_cls_preds")]
    imitation = planning_losses.imitation_loss(given["ego_fut_preds"], given["ego_fut_gt"], mask, command)
    return {
        "loss_plan_reg": weights.plan_reg * imitation,
        "loss_plan_bound": weights.plan_bound
        * planning_losses.boundary_loss(plan, lines, given["lane_score_preds"], mask),
        "loss_plan_col": weights.plan_col * planning_losses.collision_loss(plan, *agents, mask),
        "loss_plan_dir": weights.plan_dir
        * planning_losses.direction_loss(plan, lines, given["lane_score_preds"], mask),
    }


def loss_cases() -> list:
    present = [archive for archive in ARCHIVES if "names" in archive.names(FILE)]
    return [
        pytest.param(archive, column, id=f"{archive.label}-{name}")
        for archive in present
        for column, name in enumerate(archive.array(FILE, "names").tolist())
    ]


by_loss = pytest.mark.parametrize(("archive", "column"), loss_cases())


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)
def test_no_number_is_left_out(archive: Archive) -> None:
    names = set(archive.names(FILE))
    batches = {name for name in names if re.fullmatch(BATCH, name)}
    assert names == {*INPUTS, *GRADIENTS, *batches, "names", "values"}
    assert batches
    assert set(archive.array(FILE, "names").tolist()) == set(values(archive))


@by_loss
def test_loss_of_each_case(archive: Archive, column: int) -> None:
    name = str(archive.array(FILE, "names")[column])
    expected = archive.array(FILE, "values")[:, column]
    np.testing.assert_allclose(values(archive)[name].detach().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE * 0.1)


@by_loss
def test_loss_of_a_batch_is_the_mean_of_its_cases(archive: Archive, column: int) -> None:
    name = str(archive.array(FILE, "names")[column])
    for batch in archive.names(FILE):
        if match := re.fullmatch(BATCH, batch):
            mean = float(values(archive, slice(int(match[1])))[name].detach().mean())
            assert mean == pytest.approx(float(archive.array(FILE, batch)[column]), rel=TOLERANCE, abs=1e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
@by_loss
def test_gradient_of_each_case(archive: Archive, column: int, gradient: str) -> None:
    name = str(archive.array(FILE, "names")[column])
    expected = archive.array(FILE, gradient)[:, column]
    # cases do not feel each other, so the gradient of their sum is that of each alone
    (found,) = torch.autograd.grad(values(archive)[name].sum(), inputs(archive)[GRADIENTS[gradient]], allow_unused=True)
    found_array = np.zeros_like(expected) if found is None else found.numpy()
    np.testing.assert_allclose(found_array, expected, rtol=TOLERANCE, atol=TOLERANCE * 0.1)
