"""The fast formulations against the plain ones, values and gradients; no forward pass waits for the device."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sead_ray.model import deformable
from sead_ray.model.deformable import level_sizes, sample_deformable
from sead_ray.model.dropout import dropout
from sead_ray.model.dropped_attention import dropped_attention
from sead_ray.model.folding import FoldedBatchNorm2d, FoldingConv2d, fold, unfolded
from sead_ray.model.linear import Linear, linear
from sead_ray.model.presets import VADSize
from sead_ray.model.vad import VAD
from tests.model.small_vad import QUIRKS, SMALL, frames, fresh

Shapes = list[tuple[int, int]]


def by_grid_sample(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    batch, _, heads, dims = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    weights = weights.permute(3, 0, 2, 1, 4).reshape(len(shapes), batch * heads, 1, queries, points)
    total, start = torch.zeros((), dtype=value.dtype), 0
    for level, (height, width) in enumerate(shapes):
        image = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, dims, height, width)
        start += height * width
        total = total + (F.grid_sample(image, grids[level], align_corners=False) * weights[level]).sum(-1)
    return total.view(batch, heads * dims, queries).transpose(1, 2)


@pytest.mark.parametrize("chunk", [1 << 17, 37], ids=["whole", "in chunks"])
@pytest.mark.parametrize("shapes", [[(4, 8), (2, 4)], [(1, 4), (2, 1), (1, 1)], [(8, 4)]], ids=str)
def test_bags_equal_grid_sample(shapes: Shapes, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the map, across its border, far outside, and on the centres of pixels, where the slope has two answers."""
    monkeypatch.setattr(deformable, "CPU_CHUNK", chunk)
    torch.manual_seed(0)
    number = torch.float64
    value = torch.randn(2, sum(h * w for h, w in shapes), 3, 4, dtype=number, requires_grad=True)
    locations = torch.rand(2, 7, 3, len(shapes), 2, 2, dtype=number) * 1.8 - 0.4
    pixels = torch.randint(-2, 9, locations[0, :2].shape, dtype=number)
    locations[0, :2] = (pixels + 0.5) / level_sizes(shapes, locations)
    locations[1, 0, 0] = 1e9
    locations.requires_grad_()
    weights = torch.rand(2, 7, 3, len(shapes), 2, dtype=number, requires_grad=True)
    expected, found = (f(value, shapes, locations, weights) for f in (by_grid_sample, sample_deformable))
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    inputs = (value, locations, weights)
    for one, other in zip(
        torch.autograd.grad(found, inputs, gradient), torch.autograd.grad(expected, inputs, gradient)
    ):
        torch.testing.assert_close(one, other)


def test_a_sample_that_is_no_number_stays_visible() -> None:
    value, locations = torch.ones(1, 6, 1, 2), torch.full((1, 1, 1, 1, 1, 2), float("nan"))
    assert sample_deformable(value, [(2, 3)], locations, torch.ones(1, 1, 1, 1, 1)).isnan().all()


@pytest.mark.parametrize("shape", [(5, 12), (2, 7, 12), (12,)], ids=str)
def test_linear_equals_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = Linear(12, 9)
    x, y = (torch.randn(shape).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    found, expected = layer(x), F.linear(y, layer.weight, layer.bias)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    mine = torch.autograd.grad(found, (x, layer.weight, layer.bias), gradient)
    theirs = torch.autograd.grad(expected, (y, layer.weight, layer.bias), gradient)
    for one, other in zip(mine, theirs):
        torch.testing.assert_close(one, other)
    half = layer.weight.detach().bfloat16()
    assert linear(x.detach().bfloat16(), half).dtype == torch.bfloat16
    assert linear(x.detach().double(), layer.weight.detach().double()).dtype == torch.float64


def test_dropout_drops_the_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(999, 1001, requires_grad=True)
    found = dropout(x, 0.1, training=True)
    dropped = found == 0
    assert 0.098 < dropped.float().mean() < 0.102
    assert 0.997 < found.mean() < 1.003
    assert dropped.float().mean(0).std() < 0.012  # no column is favoured
    (slope,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(slope, found.detach())
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.1, training=True), found)
    assert dropout(x, 0.1, training=False) is x


def test_attention_with_dropout_equals_the_formula() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 7, 7))
    torch.manual_seed(1)
    found = dropped_attention(q, k, v, 0.25)
    torch.manual_seed(1)
    expected = dropout((q @ k.transpose(-1, -2) / 2).softmax(-1), 0.25, training=True) @ v
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(out, (q, k, v), gradient) for out in (found, expected))):
        torch.testing.assert_close(one, other)


def test_folded_norms_equal_the_plain_ones_and_train() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8)
    for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        assert tensor is not None
        tensor.uniform_(0.5, 2)
    plain = torch.nn.Sequential(conv, norm).double()
    folded = copy.deepcopy(plain)
    fold(folded[0], folded[1])
    assert isinstance(folded[0], FoldingConv2d)
    folded = copy.deepcopy(folded)  # the pair stays a pair
    assert list(folded.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for training in (False, True):
        for network in (plain, folded):
            network.train(training).zero_grad()
            network(x).pow(2).sum().backward()
        torch.testing.assert_close(folded(x), plain(x))
        for one, other in zip(folded.parameters(), plain.parameters()):
            torch.testing.assert_close(one.grad, other.grad)


def test_the_pretrained_backbone_is_folded() -> None:
    with torch.device("meta"):
        model = VAD(dataclasses.replace(SMALL, norm="BN"), pretrained_backbone=True)
    kinds = [type(module) for module in model.backbone.modules()]
    assert kinds.count(FoldingConv2d) == kinds.count(FoldedBatchNorm2d) > 10
    assert torch.nn.BatchNorm2d not in kinds
    with unfolded(model.backbone):
        assert not {FoldingConv2d, FoldedBatchNorm2d} & {type(module) for module in model.backbone.modules()}
    assert [type(module) for module in model.backbone.modules()] == kinds


class NoWaiting(TorchDispatchMode):
    """Raises where the host needs a value or a count from the device."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal.default")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.FORBIDDEN):
            raise AssertionError(f"the forward pass waits for {func}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", [SMALL, QUIRKS], ids=["corrected", "quirks"])
@torch.no_grad()
def test_forward_waits_for_nothing(size: VADSize) -> None:
    model, frame = fresh(size), frames(2, 1)
    history = model.encode_bev(frame, None)
    with NoWaiting():
        model(frame, None)
        model(frame, history)


@torch.no_grad()
def test_forward_needs_no_values() -> None:
    """On the meta device there are none to read; every camera may see every cell there."""
    model = fresh(SMALL).to("meta")
    output = model(frames(2, 1).to("meta"), None)
    assert output.bev.shape == (2, SMALL.bev_cells, SMALL.embed_dims)
