"""hustvl/VAD's checkpoints in and out, bit for bit, at the published sizes' names and at a small size."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model import checkpoint, weights
from sead_ray.model.checkpoint import export_checkpoint, import_checkpoint, read_upstream, size_changes
from sead_ray.model.presets import PRESETS, sized
from sead_ray.model.vad import VAD
from sead_ray.model.weights import load_model, save_model, upstream_name, upstream_names
from sead_ray.storage import Store
from tests.model.small_vad import SMALL, frames, fresh

OVERRIDES: dict[str, Any] = {
    "embed_dims": 32,
    "ffn_dims": 64,
    "heads": 4,
    "bev_h": 20,
    "bev_w": 10,
    "backbone_depth": 18,
    "backbone_channels": 8,
    "agent_queries": 12,
    "map_instances": 6,
}
# SHA-256 of the lines "key shape" of the original's state_dict, in its order (hustvl/VAD 1688c4b on mmdet 2.14).
PUBLISHED = {
    "vad_tiny": "a841b0670b563e91f889ef53813316f5a7722176da0dbad737d1483290cbd7c5",
    "vad_base": "a6431a1b710d5cf91bdb9424c468fce2494ccf12ecaf314ea50c4482071e9118",
}


def upstream_state(preset: str, seed: int = 0) -> OrderedDict[str, Tensor]:
    """What upstream would save at the small size, with distinct counters and odd bits."""
    torch.manual_seed(seed)
    own = VAD(sized(preset, OVERRIDES), pretrained_backbone=True).state_dict()
    state = OrderedDict((name, own[key].clone()) for key, name in upstream_names(own).items())
    for number, (key, value) in enumerate(state.items()):
        if key.endswith("num_batches_tracked"):
            value.fill_(number)
    state["pts_bbox_head.ego_query.weight"].view(-1)[:3] = torch.tensor([-0.0, float("nan"), 1e-42])
    return state


def identical(a: Tensor, b: Tensor) -> bool:
    same_kind = a.dtype == b.dtype and a.shape == b.shape
    return same_kind and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()


def imported(path: Path, folder: Path, preset: str | None = None) -> dict[str, Any]:
    found = read_upstream(str(path), preset, OVERRIDES)
    return import_checkpoint(found, str(folder), ImageConfig(), ScoreConfig())


@pytest.mark.parametrize("preset", PUBLISHED)
def test_names_shapes_and_order_are_the_originals(preset: str) -> None:
    with torch.device("meta"):
        own = VAD(PRESETS[preset], pretrained_backbone=True).state_dict()
    lines = [f"{name} {'x'.join(map(str, own[key].shape))}" for key, name in upstream_names(own).items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED[preset]


@pytest.mark.parametrize("preset", ["vad_tiny", "vad_base"])
def test_round_trip_is_identical(preset: str, tmp_path: Path) -> None:
    state = upstream_state(preset)
    prefixed = OrderedDict((f"module.{key}", value) for key, value in state.items())
    torch.save({"meta": {"epoch": 60}, "state_dict": prefixed, "optimizer": {"state": {}}}, tmp_path / "up.pth")
    card = imported(tmp_path / "up.pth", tmp_path / "model")
    assert card["size"]["preset"] == preset
    assert card["info"]["image"]["decode"] == "full"
    assert card["info"]["imported"]["epoch"] == 60
    size = export_checkpoint(str(tmp_path / "model"), str(tmp_path / "back.pth"))
    assert set(size_changes(size)) == set(OVERRIDES)
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back["state_dict"]) == list(state)
    assert all(identical(back["state_dict"][key], value) for key, value in state.items())
    assert imported(tmp_path / "back.pth", tmp_path / "again")["sha256"] == card["sha256"]


def test_widths_of_numbers_are_kept_at_rest(tmp_path: Path) -> None:
    state = {
        key: value.half() if value.is_floating_point() else value for key, value in upstream_state("vad_tiny").items()
    }
    torch.save(state, tmp_path / "half.pth")
    imported(tmp_path / "half.pth", tmp_path / "model")
    export_checkpoint(str(tmp_path / "model"), str(tmp_path / "back.pth"))
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert all(identical(back[key], value) for key, value in state.items())
    model, _ = load_model(Store(str(tmp_path)), "model")
    assert model.encoder.level_embeds.dtype == torch.float32


def test_an_imported_model_computes_what_its_weights_say(tmp_path: Path) -> None:
    state = upstream_state("vad_tiny")
    state["pts_bbox_head.ego_query.weight"].zero_()
    torch.save(state, tmp_path / "up.pth")
    imported(tmp_path / "up.pth", tmp_path / "model")
    model, _ = load_model(Store(str(tmp_path)), "model")
    expected = VAD(sized("vad_tiny", OVERRIDES), pretrained_backbone=True).eval()
    expected.load_state_dict({key: state[upstream_name(key)] for key in expected.state_dict()})
    with torch.no_grad():
        assert torch.equal(model(frames(1), None).plans_m, expected(frames(1), None).plans_m)
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {"code_weights", "map_code_weights", "backbone.conv1.weight"} <= frozen


def test_every_wrong_key_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    state = upstream_state("vad_tiny")
    missing = [key for key in state if "ego_query" in key or "decoder.layers.1.norms" in key]
    for key in missing:
        del state[key]
    state["pts_bbox_head.tracker.weight"] = torch.zeros(2)
    state["img_neck.extra.bias"] = torch.zeros(2)
    state["pts_bbox_head.bev_embedding.weight"] = torch.zeros(10, 32)
    state["img_backbone.bn1.num_batches_tracked"] = torch.tensor(0.5)
    torch.save(state, tmp_path / "up.pth")
    with pytest.raises(InputError) as raised:
        imported(tmp_path / "up.pth", tmp_path / "model", "vad_tiny")
    message = str(raised.value)
    for key in (*missing, "pts_bbox_head.tracker.weight", "img_neck.extra.bias"):
        assert repr(key) in message
    assert "'pts_bbox_head.bev_embedding.weight' (shape (10, 32), not (200, 32))" in message
    assert "'img_backbone.bn1.num_batches_tracked' (float32, not int64)" in message
    assert not (tmp_path / "model").exists()


def test_very_many_wrong_keys_are_listed_above_the_sentence(tmp_path: Path) -> None:
    state = upstream_state("vad_tiny")
    head = {key: value for key, value in state.items() if not key.startswith("img_")}
    torch.save(head, tmp_path / "head.pth")
    with pytest.raises(InputError, match=r"lacks 1\d\d keys") as raised:
        imported(tmp_path / "head.pth", tmp_path / "model")
    assert raised.value.listing == tuple(f"lacks {key!r}" for key in state if key.startswith("img_"))
    torch.save({"layer1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"holds none of its tensors, but 'layer1\.weight'"):
        imported(tmp_path / "other.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_wrong_preset_is_named(tmp_path: Path) -> None:
    state = upstream_state("vad_base")
    for spoilt in (False, True):
        if spoilt:
            del state["pts_bbox_head.ego_query.weight"]
        torch.save(state, tmp_path / "base.pth")
        with pytest.raises(InputError, match=r"base\.pth is a checkpoint of vad_base, but model\.preset is vad_tiny"):
            imported(tmp_path / "base.pth", tmp_path / "model", "vad_tiny")
    with pytest.raises(InputError, match="vad_nano is not a size of hustvl/VAD"):
        imported(tmp_path / "base.pth", tmp_path / "model", "vad_nano")
    assert not (tmp_path / "model").exists()


def test_published_weights_need_the_full_decode(tmp_path: Path) -> None:
    torch.save(upstream_state("vad_tiny"), tmp_path / "up.pth")
    found = read_upstream(str(tmp_path / "up.pth"), None, OVERRIDES)
    with pytest.raises(InputError, match=r"image\.decode full"):
        import_checkpoint(found, str(tmp_path / "model"), ImageConfig(decode="dct"), ScoreConfig())
    assert not (tmp_path / "model").exists()


def test_an_interrupted_import_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(upstream_state("vad_tiny"), tmp_path / "up.pth")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_json", interrupt)  # after the weights, before the card
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path / "up.pth", tmp_path / "model")
    with pytest.raises(InputError, match=r"model\.json does not exist"):
        load_model(Store(str(tmp_path)), "model")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path / "up.pth", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
    card = imported(tmp_path / "up.pth", tmp_path / "model")
    assert load_model(Store(str(tmp_path)), "model")[1] == card
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_checkpoint(str(tmp_path / "model"), str(tmp_path / "out" / "back.pth"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_keeps_its_model(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.save(upstream_state("vad_tiny", seed), tmp_path / f"{seed}.pth")
    card = imported(tmp_path / "0.pth", tmp_path / "model")
    assert imported(tmp_path / "0.pth", tmp_path / "model") == card
    with pytest.raises(InputError, match=f"holds model {card['model_version']} already"):
        imported(tmp_path / "1.pth", tmp_path / "model")
    with pytest.raises(InputError, match=r"0\.pth exists already"):
        export_checkpoint(str(tmp_path / "model"), str(tmp_path / "0.pth"))
    assert load_model(Store(str(tmp_path)), "model")[1] == card


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    torch.save(upstream_state("vad_tiny"), tmp_path / "up.pth")
    with pytest.raises(InputError, match=r"up\.pth/model cannot be written: (Not a directory|File exists)"):
        imported(tmp_path / "up.pth", tmp_path / "up.pth" / "model")


def test_what_upstream_would_misread_is_not_exported(tmp_path: Path) -> None:
    save_model(Store(str(tmp_path)), "nano", fresh(SMALL), {})
    with pytest.raises(InputError, match="computes what hustvl/VAD does not"):
        export_checkpoint(str(tmp_path / "nano"), str(tmp_path / "out.pth"))
    own = fresh(dataclasses.replace(SMALL, parity_quirks=True, ego_status=False))
    save_model(Store(str(tmp_path)), "own", own, {})
    export_checkpoint(str(tmp_path / "own"), str(tmp_path / "out.pth"))
    exported = torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]
    assert all(identical(exported[weights.upstream_name(key)], value) for key, value in own.state_dict().items())


def test_published_image_widths() -> None:
    assert checkpoint.IMAGE_WIDTHS == {"vad_tiny": 0.4 * 1600, "vad_base": 0.8 * 1600}
