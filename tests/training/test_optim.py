from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sead_ray.config import TrainConfig
from sead_ray.training.optim import build_optimizer, build_scheduler, learning_rate_factor, warmup_steps


class Planner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 3)
        self.backbone.bias.requires_grad_(False)
        self.backbone_like_head = nn.Linear(3, 2)


CONFIG = TrainConfig()


def test_warm_up_is_the_smaller_of_500_steps_and_five_percent():
    assert warmup_steps(100_000, CONFIG) == 500
    assert warmup_steps(1000, CONFIG) == 50
    assert warmup_steps(10, CONFIG) == 0


def test_schedule_starts_at_the_warm_up_ratio_and_ends_at_the_minimum():
    total = 1000
    values = [learning_rate_factor(step, total, CONFIG) for step in range(total + 5)]
    assert values[0] == pytest.approx(1 / 3)
    assert max(values) == values[50]
    assert values[50] == pytest.approx(1, abs=0.01)
    assert values[total - 1] == values[total + 4] == pytest.approx(1e-3)
    assert all(later > earlier for earlier, later in itertools.pairwise(values[:51]))
    assert all(later < earlier for earlier, later in itertools.pairwise(values[50:total]))


@pytest.mark.parametrize("total", [1, 2, 7])
def test_tiny_runs_have_a_positive_rate_at_first(total: int):
    assert learning_rate_factor(0, total, CONFIG) == pytest.approx(1.0)


def test_only_a_pretrained_backbone_learns_slower_and_frozen_parameters_are_left_out():
    model = Planner()
    slow = {group["name"]: group for group in build_optimizer(model, CONFIG, True).param_groups}
    assert slow["backbone"]["lr"] == pytest.approx(2e-5)
    assert slow["head"]["lr"] == pytest.approx(2e-4)
    assert len(slow["backbone"]["params"]) == 1
    assert len(slow["head"]["params"]) == 2
    assert all(group["weight_decay"] == 0.01 for group in slow.values())
    equal = build_optimizer(model, CONFIG, False).param_groups
    assert [group["lr"] for group in equal] == [2e-4, 2e-4]


def test_wrapped_models_group_alike():
    wrapped = nn.Module()
    wrapped.module = Planner()
    groups = {group["name"]: len(group["params"]) for group in build_optimizer(wrapped, CONFIG, True).param_groups}
    assert groups == {"head": 2, "backbone": 1}


def test_the_scheduler_scales_every_group():
    optimizer = build_optimizer(Planner(), CONFIG, True)
    scheduler = build_scheduler(optimizer, 1000, CONFIG)
    optimizer.step()
    scheduler.step()
    factor = learning_rate_factor(1, 1000, CONFIG)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([2e-4 * factor, 2e-5 * factor])
    assert isinstance(optimizer, torch.optim.AdamW)
