"""The network: published sizes, independence of the batch, gradients, decoding."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from sead_ray.config import ModelConfig
from sead_ray.errors import InputError
from sead_ray.model.decode import box_from_code, decode_boxes, decode_lines
from sead_ray.model.presets import PRESETS, VADSize, resolve
from sead_ray.model.vad import VAD, build_model
from tests.model.small_vad import QUIRKS, SMALL, frames, fresh, per_sample, pick


@pytest.mark.parametrize(
    ("preset", "entries", "parameters", "trainable"),
    [("vad_tiny", 746, 39_865_999, 39_590_465), ("vad_base", 1062, 58_357_786, 58_082_252)],
)
def test_published_sizes(preset: str, entries: int, parameters: int, trainable: int) -> None:
    with torch.device("meta"):
        model = VAD(PRESETS[preset], pretrained_backbone=True)
    assert len(model.state_dict()) == entries
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable


@pytest.mark.parametrize("size", [SMALL, QUIRKS], ids=["corrected", "quirks"])
@torch.no_grad()
def test_a_batch_equals_its_samples(size: VADSize) -> None:
    model, first, second = fresh(size), frames(3, 1), frames(3, 2)
    history = model.encode_bev(first, None)
    for frame, before in ((first, None), (second, history)):
        together = model(frame, before)
        for i in range(3):
            alone = model(pick(frame, i), None if before is None else before[i : i + 1])
            for name, value in per_sample(together, i).items():
                torch.testing.assert_close(value, per_sample(alone, 0)[name], rtol=1e-5, atol=1e-5, msg=name)


@torch.no_grad()
def test_history_matters_and_is_not_written_to() -> None:
    model, frame = fresh(QUIRKS), frames(2, 3)
    history = model.encode_bev(frames(2, 4), None)
    kept = history.clone()
    with_history = model(frame, history)
    assert torch.equal(history, kept)
    assert not torch.allclose(with_history.bev, model(frame, None).bev, atol=1e-3)
    torch.testing.assert_close(with_history.bev, model.encode_bev(frame, history))


def test_gradients_reach_every_trainable_parameter() -> None:
    model, frame = fresh(SMALL).train(), frames(2, 5)
    with torch.no_grad():
        # Offsets and attention start at constants, residual branches at 0: move them, or gradients vanish by design.
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        history = model.encode_bev(frames(2, 6), None)
    output = model(frame, history)
    generator = torch.Generator().manual_seed(0)
    loss = torch.zeros(())
    for field in ("class_logits", "boxes", "mode_offsets", "mode_logits", "map_class_logits", "map_points", "plans_m"):
        value = getattr(output, field)
        loss = loss + (value * torch.randn(value.shape, generator=generator)).sum()
    loss.backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not torch.any(p.grad)) and not name.startswith("map_code")
    ]
    assert without == []


@torch.no_grad()
def test_output_is_what_the_contract_says() -> None:
    model, size = fresh(SMALL), SMALL
    out = model(frames(2, 7), None)
    layers, agents, modes, steps = size.decoder_layers, size.agent_queries, size.modes, size.future_steps
    assert out.bev.shape == (2, size.bev_cells, size.embed_dims)
    assert out.map_features.shape == (2, size.map_instances, size.map_points, size.embed_dims)
    assert out.boxes.shape == (layers, 2, agents, 10)
    assert out.mode_trajectories_m.shape == (2, agents, modes, steps, 2)
    assert out.plans_m.shape == (2, 3, steps, 2)
    torch.testing.assert_close(out.mode_probabilities.sum(-1), torch.ones(2, agents))
    centers = out.agent_centers_m
    assert bool((centers.abs() <= torch.tensor([15.0, 30.0])).all())
    assert bool(((out.map_points >= 0) & (out.map_points <= 1)).all())


@torch.no_grad()
def test_decoding_takes_the_best_pairs() -> None:
    out = fresh(SMALL)(frames(2, 8), None)
    out.class_logits[-1, 0] = -5.0
    out.class_logits[-1, 0, 3, 2] = 4.0
    out.class_logits[-1, 0, 3, 7] = 3.0
    out.class_logits[-1, 0, 9, 1] = 2.0
    boxes = decode_boxes(out, max_boxes=3)[0]
    assert boxes.queries.tolist() == [3, 3, 9]
    assert boxes.labels.tolist() == [2, 7, 1]
    torch.testing.assert_close(boxes.boxes[:, :2], out.agent_centers_m[0, [3, 3, 9]])
    out.boxes[-1, 0, 9, 0] = 25.0
    assert decode_boxes(out, max_boxes=3)[0].queries.tolist() == [3, 3]
    lines = decode_lines(out, SMALL.pc_range, max_lines=4)[1]
    assert lines.points_m.shape == (4, SMALL.map_points, 2)
    assert bool((lines.scores[:-1] >= lines.scores[1:]).all())


def test_box_code() -> None:
    code = torch.tensor([1.0, 2.0, math.log(1.9), math.log(4.5), -1.0, math.log(1.6), 1.0, 0.0, 3.0, 4.0])
    expected = torch.tensor([1.0, 2.0, -1.0, 1.9, 4.5, 1.6, math.pi / 2, 3.0, 4.0])
    torch.testing.assert_close(box_from_code(code), expected)


def test_overrides() -> None:
    size = resolve(ModelConfig(preset="vad_nano", overrides={"bev_h": 30, "pc_range": [-10, -20, -2, 10, 20, 2]}))
    assert (size.bev_h, size.extent_m, size.norm) == (30, (20, 40), "GN")
    assert resolve(ModelConfig(preset="vad_tiny", backbone_weights="r50.pth")).norm == "BN"
    with pytest.raises(InputError, match="'bev_height'"):
        resolve(ModelConfig(overrides={"bev_height": 30}))
    with pytest.raises(InputError, match="'bev_h' must be of type int"):
        resolve(ModelConfig(overrides={"bev_h": "30"}))


def test_backbone_weights_are_loaded_and_freeze(tmp_path) -> None:
    overrides = {key: getattr(SMALL, key) for key in ("embed_dims", "bev_h", "bev_w", "backbone_channels")}
    source = VAD(dataclasses.replace(resolve(ModelConfig(preset="vad_nano", overrides=overrides)), norm="BN"))
    state = {key: value + 1 for key, value in source.backbone.state_dict().items()}
    path = tmp_path / "resnet.pth"
    torch.save(state | {"fc.weight": torch.zeros(2, 2)}, path)
    config = ModelConfig(preset="vad_nano", overrides=overrides, backbone_weights=str(path))
    model = build_model(config).train()
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], state["conv1.weight"])
    trained = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith(("layer2", "layer3", "layer4")) and "bn" not in name for name in trained)
    assert not any(m.training for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"backbone_weights: .*resnet\.pth is truncated"):
        build_model(config)
