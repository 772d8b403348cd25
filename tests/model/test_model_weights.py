"""Weights at rest: round trip, damage, and upstream's names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sead_ray.errors import InputError
from sead_ray.model.vad import VAD
from sead_ray.model.weights import load_model, load_upstream, save_model, upstream_name
from sead_ray.storage import Store
from tests.model.small_vad import SMALL, frames, fresh


def test_round_trip(tmp_path: Path) -> None:
    store, model = Store(str(tmp_path)), fresh(SMALL)
    card = save_model(store, "m", model, {"round": 1})
    loaded, read = load_model(store, "m")
    assert read == card
    assert card["info"] == {"round": 1}
    assert card["model_version"] == card["sha256"][:12]
    assert loaded.size == SMALL
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(model(frames(1), None).plans_m, loaded(frames(1), None).plans_m)
    assert save_model(store, "again", model, {})["sha256"] == card["sha256"]


def test_an_image_network_of_ones_own_runs_but_has_no_card(tmp_path: Path) -> None:
    source = fresh(SMALL)
    model = VAD(SMALL, backbone=source.backbone, neck=source.neck).eval()
    model.load_state_dict(source.state_dict())
    with torch.no_grad():
        assert torch.equal(model(frames(1), None).plans_m, source(frames(1), None).plans_m)
    with pytest.raises(InputError, match="image network of one's own"):
        save_model(Store(str(tmp_path)), "m", model, {})
    with pytest.raises(InputError, match="together"):
        VAD(SMALL, backbone=source.backbone)


def test_damage_is_refused_in_one_sentence(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    save_model(store, "m", fresh(SMALL), {})
    weights, card = tmp_path / "m/weights.safetensors", tmp_path / "m/model.json"
    data, text = weights.read_bytes(), card.read_text()

    weights.write_bytes(data[:-100])
    with pytest.raises(InputError, match=r"weights\.safetensors is truncated or altered"):
        load_model(store, "m")
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="truncated or altered"):
        load_model(store, "m")
    weights.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors does not exist"):
        load_model(store, "m")
    weights.write_bytes(data)
    card.write_text(text.replace('"agent_queries": 12', '"agent_queries": 13'))
    with pytest.raises(InputError, match="does not fit the size"):
        load_model(store, "m")
    card.write_text("{}")
    with pytest.raises(InputError, match="not a model card"):
        load_model(store, "m")
    card.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match="newer"):
        load_model(store, "m")
    card.unlink()
    with pytest.raises(InputError, match=r"model\.json does not exist"):
        load_model(store, "m")


def test_upstream_names_are_unique_and_load(tmp_path: Path) -> None:
    model = fresh(SMALL, 1)
    state = {upstream_name(key): value for key, value in model.state_dict().items()}
    assert len(state) == len(model.state_dict())
    head = "pts_bbox_head.transformer."
    assert {
        head + "encoder.layers.0.attentions.1.deformable_attention.sampling_offsets.weight",
        head + "decoder.layers.1.attentions.0.attn.in_proj_weight",
        head + "map_decoder.layers.0.ffns.0.layers.0.0.bias",
        "pts_bbox_head.lane_encoder.layer_seq.lmlp_2.mlp.1.weight",
        "pts_bbox_head.ego_map_decoder.layers.0.norms.1.bias",
        "img_neck.lateral_convs.0.conv.weight",
    } <= set(state)
    other = fresh(SMALL, 2)
    load_upstream(other, state)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(InputError, match="ego_query"):
        load_upstream(other, {key: value for key, value in state.items() if "ego_query" not in key})
    with pytest.raises(InputError, match="'stray'"):
        load_upstream(other, state | {"stray": torch.zeros(1)})
