"""A model made ready for inference gives what it gave before."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from sead_ray.model.contract import VADOutput
from sead_ray.model.folding import FoldingConv2d, fold_for_good
from sead_ray.model.fused_resnet import FusedBottleneck, fuse_resnet
from sead_ray.model.inference import InferenceModel
from sead_ray.model.vad import VAD
from tests.model.small_vad import SMALL, frames, fresh, pick

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU PyTorch takes TF32 for them, unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def with_lively_norms() -> VAD:
    """Batch norms that have seen data, so that folding them changes the weights."""
    torch.manual_seed(0)
    model = VAD(dataclasses.replace(SMALL, norm="BN"), pretrained_backbone=True).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5)
    return model.to(DEVICE)


@pytest.mark.parametrize("make", [with_lively_norms, lambda: fresh(SMALL).to(DEVICE)], ids=["BN", "GN"])
def test_equals_the_model_frame_after_frame(make) -> None:
    model = make()
    ready = InferenceModel(copy.deepcopy(model))
    assert not any(isinstance(module, FoldingConv2d) for module in ready.planner.modules())
    assert ready.bev_hw == model.bev_hw
    before, after = None, None
    for seed in range(3):
        frame = frames(2, seed).to(DEVICE)
        with torch.no_grad():
            expected, found = model(frame, before), ready(frame, after)
        same(found, expected)
        before, after = expected.bev, found.bev


def test_a_batch_may_mix_clips_that_begin_with_others() -> None:
    model = fresh(SMALL).to(DEVICE)
    ready = InferenceModel(copy.deepcopy(model))
    first, second = frames(2, 1).to(DEVICE), frames(2, 2).to(DEVICE)
    history = ready(first, None).bev.clone()
    has_history = torch.tensor([True, False], device=DEVICE)
    found = ready(second, history, has_history)
    with torch.no_grad():
        going_on = model(pick(second, 0), history[:1])
        beginning = model(pick(second, 1), None)
    torch.testing.assert_close(found.bev[:1], going_on.bev, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.bev[1:], beginning.bev, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["mixed", "bf16"])
@pytest.mark.parametrize("make", [with_lively_norms, lambda: fresh(SMALL).to(DEVICE)], ids=["BN", "GN"])
def test_half_precision_is_near(make, precision) -> None:
    model = make()
    frame = frames(2).to(DEVICE)
    with torch.no_grad():
        expected = model(frame, None)
    found = InferenceModel(model, precision)(frame, None)
    error = (found.bev.float() - expected.bev).abs().mean() / expected.bev.abs().mean()
    assert 0 < error < 0.02
    assert found.boxes.dtype == torch.float32


def same(found: object, expected: VADOutput) -> None:
    for field in dataclasses.fields(expected):
        torch.testing.assert_close(getattr(found, field.name), getattr(expected, field.name), rtol=1e-4, atol=1e-4)


def test_fused_bottlenecks_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    size = dataclasses.replace(SMALL, norm="BN", backbone_depth=50, backbone_out=(3,))
    backbone = VAD(size, pretrained_backbone=True).eval().double().backbone
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.5, 0.5)
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        (expected,) = backbone(x)
        fold_for_good(backbone)
        assert fuse_resnet(backbone, torch.float64)
        kinds = [type(module) for module in backbone.modules()]
        assert kinds.count(FusedBottleneck) == 16
        assert torch.nn.ReLU not in kinds
        torch.testing.assert_close(backbone(x)[0], expected)


def test_other_networks_are_not_fused() -> None:
    backbone = fresh(SMALL).backbone
    assert not fuse_resnet(backbone, torch.float64)
