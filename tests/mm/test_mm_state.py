"""A detector's `state_dict` has upstream's names: mmengine, import_checkpoint and hustvl/VAD read the same one."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import load_checkpoint, save_checkpoint

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.model.checkpoint import import_checkpoint, read_upstream
from sead_ray.model.presets import sized
from sead_ray.model.vad import VAD
from sead_ray.model.weights import load_model, upstream_names
from sead_ray.storage import Store
from tests.mm.small_detector import OVERRIDES, detector

PUBLISHED = {"img_backbone": None, "img_neck": None, "pretrained_backbone": True}
SMALL = {**OVERRIDES, "backbone_channels": 4}


def published(seed: int = 1) -> torch.nn.Module:
    return detector(seed, **PUBLISHED, overrides=SMALL)


def test_names_and_order_are_upstreams() -> None:
    own = VAD(sized("vad_tiny", SMALL), pretrained_backbone=True).state_dict()
    assert list(published().state_dict()) == list(upstream_names(own).values())


def test_a_published_checkpoint_loads_strictly(tmp_path: Path) -> None:
    source = VAD(sized("vad_tiny", SMALL), pretrained_backbone=True).state_dict()
    state = {name: source[key] for key, name in upstream_names(source).items()}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "up.pth")
    for strict_load in (
        lambda built: built.load_state_dict(state),
        lambda built: load_checkpoint(built, str(tmp_path / "up.pth"), strict=True),
    ):
        built = published(seed=7)
        strict_load(built)
        assert all(torch.equal(value, state[key]) for key, value in built.state_dict().items())
        assert torch.equal(built.pts_bbox_head.planner.ego_query.weight, source["planner.ego_query.weight"])


def test_a_saved_state_dict_can_be_imported(tmp_path: Path) -> None:
    built = published()
    save_checkpoint({"state_dict": built.state_dict(), "meta": {"epoch": 3}}, str(tmp_path / "epoch_3.pth"))
    found = read_upstream(str(tmp_path / "epoch_3.pth"), "vad_tiny", SMALL)
    import_checkpoint(found, str(tmp_path / "model"), ImageConfig(), ScoreConfig())
    model, _ = load_model(Store(str(tmp_path)), "model")
    head = built.pts_bbox_head.state_dict()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in head.items())


def test_copies_and_wrappers_keep_the_names() -> None:
    built = published()
    names = list(built.state_dict())
    copied = copy.deepcopy(built)
    copied.load_state_dict(published(seed=9).state_dict())
    assert list(copied.state_dict()) == names
    average = ExponentialMovingAverage(built)
    average.update_parameters(built)
    state = average.state_dict()
    assert {f"module.{name}" for name in names} <= set(state)
    average.load_state_dict(state)
    other = torch.nn.ModuleDict({"a": built, "b": torch.nn.Linear(2, 2)})
    assert {"b.weight", *(f"a.{name}" for name in names)} <= set(other.state_dict())
    other.load_state_dict(other.state_dict())


def test_a_foreign_backbone_keeps_its_names() -> None:
    swin = {"type": "mmdet.SwinTransformer", "embed_dims": 16, "depths": (1, 1), "num_heads": (1, 1)}
    swin |= {"strides": (4, 2), "out_indices": (1,)}
    fpn = {"type": "mmdet.FPN", "in_channels": [32], "out_channels": 32, "num_outs": 1}
    built = detector(img_backbone=swin, img_neck=fpn)
    expected = {f"img_backbone.{name}" for name in built.img_backbone.state_dict()}
    assert {name for name in built.state_dict() if name.startswith("img_backbone.")} == expected
    detector(2, img_backbone=swin, img_neck=fpn).load_state_dict(built.state_dict())
