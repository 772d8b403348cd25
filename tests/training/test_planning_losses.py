"""VAD's planning constraints on hand-made scenes."""

from __future__ import annotations

import math

import pytest
import torch

from sead_ray.training.planning_losses import boundary_loss, collision_loss, direction_loss, imitation_loss

MASK = torch.ones(1, 6)
FORWARD = torch.tensor([[[0.0, 2.0]] * 6])


def line(start: tuple[float, float], end: tuple[float, float], points: int = 121) -> torch.Tensor:
    weight = torch.linspace(0, 1, points)[:, None]
    return (torch.tensor(start) * (1 - weight) + torch.tensor(end) * weight)[None, None]


def scores(line_class: int, value: float = 0.9) -> torch.Tensor:
    out = torch.zeros(1, 1, 3)
    out[..., line_class] = value
    return out


def test_imitation_is_a_third_of_the_mean_and_reads_the_commanded_plan():
    plans = torch.zeros(1, 3, 6, 2)
    plans[0, 1] = 1.0
    target = torch.zeros(1, 6, 2)
    assert imitation_loss(plans, target, MASK, torch.tensor([1])).item() == pytest.approx(1 / 3)
    assert imitation_loss(plans, target, MASK, torch.tensor([0])).item() == 0


def test_boundary_loss_is_the_missing_distance():
    boundary = line((0.6, -30.0), (0.6, 30.0))  # a vertex every 0.5 m, so right beside each position
    assert boundary_loss(FORWARD, boundary, scores(2), MASK).item() == pytest.approx(0.4, abs=1e-5)
    assert boundary_loss(FORWARD, boundary + torch.tensor([0.5, 0.0]), scores(2), MASK).item() == 0
    assert boundary_loss(FORWARD, boundary, scores(2, 0.4), MASK).item() == 0
    assert boundary_loss(FORWARD, boundary, scores(0), MASK).item() == 0


def test_boundary_loss_ends_where_the_plan_crosses():
    across = line((-5.0, 5.0), (5.0, 5.0))  # crossed by the third step, from y = 4 to y = 6
    plan = FORWARD.clone()
    plan[0, 0, 1], plan[0, 1, 1] = 2.5, 2.0  # y = 2.5, 4.5, 6.5, ...: the second is 0.5 m before the line
    assert boundary_loss(plan, across, scores(2), MASK).item() == pytest.approx(0.5 / 6)


def vehicle(x: float, y: float, label: int = 0, score: float = 0.9):
    agent_scores = torch.zeros(1, 1, 10)
    agent_scores[..., label] = score
    return torch.tensor([[[x, y]]]), torch.zeros(1, 1, 6, 6, 2), agent_scores, torch.ones(1, 1, 6)


def test_collision_loss_of_a_parked_car_beside_a_standing_ego():
    plan = torch.zeros(1, 6, 2)
    value = collision_loss(plan, *vehicle(1.0, 0.0), MASK).item()
    assert value == pytest.approx((0.5 + 3.0) / 2)
    assert collision_loss(plan, *vehicle(1.0, 4.0), MASK).item() == 0  # farther than 3 m
    assert collision_loss(plan, *vehicle(1.0, 0.0, label=8), MASK).item() == 0  # a pedestrian
    assert collision_loss(plan, *vehicle(1.0, 0.0, score=0.4), MASK).item() == 0


def test_collision_gradient_pushes_the_ego_away():
    plan = torch.zeros(1, 6, 2, requires_grad=True)
    collision_loss(plan, *vehicle(1.0, 0.5), MASK).sum().backward()
    assert (plan.grad[..., 0] > 0).all()
    assert (plan.grad[..., 1] > 0).all()


def test_direction_loss_is_the_angle_to_the_divider():
    angle = 0.2
    slanted = line((-30 * math.tan(angle), -30.0), (30 * math.tan(angle), 30.0), 241)
    plan = FORWARD * 0.2  # stays within 2 m of the divider
    assert direction_loss(plan * 3, slanted, scores(0), MASK).item() == pytest.approx(angle, abs=1e-5)
    backwards = direction_loss(plan * 3, slanted.flip(2), scores(0), MASK).item()
    assert backwards == pytest.approx(angle, abs=1e-5)  # a divider has no direction
    assert direction_loss(plan * 0.1, slanted, scores(0), MASK).item() == 0  # static


def test_standing_still_has_no_nan_gradient():
    plan = torch.zeros(2, 6, 2, requires_grad=True)
    lines = torch.rand(2, 4, 20, 2, requires_grad=True)
    line_scores = torch.full((2, 4, 3), 0.9)
    line_scores[1] = 0.1
    mask = torch.ones(2, 6)
    total = direction_loss(plan, lines, line_scores, mask) + boundary_loss(plan, lines, line_scores, mask)
    total.sum().backward()
    assert plan.grad.isfinite().all()
    assert lines.grad.isfinite().all()


def test_masked_steps_cost_nothing():
    boundary = line((0.6, -30.0), (0.6, 30.0))
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    assert boundary_loss(FORWARD, boundary, scores(2), mask).item() == pytest.approx(0.4 / 3, abs=1e-5)
    assert collision_loss(torch.zeros(1, 6, 2), *vehicle(1.0, 0.0), torch.zeros(1, 6)).item() == 0
