"""An ImageNet ResNet as the backbone's start: torchvision's names, other networks refused by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sead_ray.config import ModelConfig
from sead_ray.errors import InputError
from sead_ray.model.backbone import load_backbone_weights
from sead_ray.model.vad import build_model

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def torchvision_resnet(depth: int, channels: int = 4, counters: bool = True) -> dict[str, Tensor]:
    """The `state_dict` of torchvision's bottleneck ResNet by its published layout, narrow, with random numbers."""
    state: dict[str, Tensor] = {}

    def conv(name: str, out: int, into: int, size: int) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, size, size)

    def norm(name: str, size: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(size) + 0.5
        if counters:
            state[f"{name}.num_batches_tracked"] = torch.tensor(3)

    conv("conv1", channels, 3, 7)
    norm("bn1", channels)
    into = channels
    for stage, count in enumerate(BLOCKS[depth], start=1):
        width = channels * 2 ** (stage - 1)
        for block in range(count):
            name = f"layer{stage}.{block}"
            for number, (out, source, size) in enumerate(
                ((width, into, 1), (width, width, 3), (4 * width, width, 1)), start=1
            ):
                conv(f"{name}.conv{number}", out, source, size)
                norm(f"{name}.bn{number}", out)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, into, 1)
                norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    state |= {"fc.weight": torch.zeros(10, into), "fc.bias": torch.zeros(10)}
    return state


def config(path: Path, **overrides: Any) -> ModelConfig:
    small = {"backbone_depth": 50, "backbone_channels": 4, "embed_dims": 32, "bev_h": 20, "bev_w": 10, **overrides}
    return ModelConfig(preset="vad_tiny", backbone_weights=str(path), overrides=small)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("counters", [True, False], ids=["counters", "no counters"])
def test_every_tensor_arrives(suffix: str, counters: bool, tmp_path: Path) -> None:
    path, state = tmp_path / f"resnet50{suffix}", torchvision_resnet(50, counters=counters)
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, str(path))
    loaded = build_model(config(path)).backbone.state_dict()
    for key, value in loaded.items():
        if key in state:
            assert torch.equal(value, state[key]), key
        else:
            assert not counters
            assert key.endswith("num_batches_tracked")
            assert value == 0
    assert set(state) - set(loaded) == {"fc.weight", "fc.bias"}


def test_stages_that_are_not_built_are_left_out(tmp_path: Path) -> None:
    torch.save({"state_dict": torchvision_resnet(50)}, tmp_path / "r50.pth")
    model = build_model(config(tmp_path / "r50.pth", backbone_out=[1, 2], feature_levels=2))
    assert not any(key.startswith("layer4") for key in model.backbone.state_dict())


def test_another_network_is_refused_by_key(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(torchvision_resnet(101), path)
    with pytest.raises(InputError, match=r"backbone_weights: .*other\.pth is not this ResNet.*306 keys") as more:
        build_model(config(path))
    assert "holds the unknown 'layer3.10.bn1.bias'" in more.value.listing
    state = torchvision_resnet(50)
    del state["layer2.1.bn2.bias"], state["layer4.2.conv1.weight"]
    state["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    torch.save(state, path)
    with pytest.raises(InputError) as raised:
        build_model(config(path))
    for part in (
        "'layer2.1.bn2.bias'",
        "'layer4.2.conv1.weight'",
        "'conv1.weight' (shape (4, 3, 3, 3), not (4, 3, 7, 7))",
    ):
        assert part in str(raised.value)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.backbone_weights: .*other\.pth is empty"):
        build_model(config(path))
    with pytest.raises(InputError, match=r"model\.backbone_weights: .*none\.pth does not exist"):
        load_backbone_weights(torch.nn.Identity(), str(tmp_path / "none.pth"))
