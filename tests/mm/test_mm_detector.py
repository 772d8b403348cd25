"""The three modes against the project's own model, decoding and criterion."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper

from sead_ray.errors import InputError
from sead_ray.mm import vad_boxes
from sead_ray.model.decode import decode_boxes, decode_lines
from sead_ray.model.vad import VAD
from sead_ray.training.criterion import VADCriterion
from tests.mm.small_detector import FPN, OVERRIDES, RESNET, batch, detector, one_batch, targets
from tests.model.small_vad import per_sample, pick

BACKBONES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ResNet-34": (
        {"type": "mmdet.ResNet", "depth": 34, "base_channels": 8, "out_indices": (3,)},
        {"type": "mmdet.FPN", "in_channels": [64], "out_channels": 32, "num_outs": 1},
    ),
    "ResNet-101": (
        {"type": "mmdet.ResNet", "depth": 101, "base_channels": 4, "out_indices": (2, 3)},
        {"type": "mmdet.FPN", "in_channels": [64, 128], "out_channels": 32, "num_outs": 4},
    ),
    "Swin": (
        {
            "type": "mmdet.SwinTransformer",
            "embed_dims": 16,
            "depths": (1, 1, 1, 1),
            "num_heads": (1, 1, 2, 2),
            "out_indices": (2, 3),
        },
        {"type": "mmdet.FPN", "in_channels": [64, 128], "out_channels": 32, "num_outs": 2},
    ),
    "MobileNetV2": (
        {"type": "mmdet.MobileNetV2", "widen_factor": 0.25, "out_indices": (4, 6)},
        {"type": "mmdet.ChannelMapper", "in_channels": [24, 80], "out_channels": 32, "num_outs": 2},
    ),
}


def as_vad(built: Any) -> VAD:
    """The same network as the project's own model."""
    model = VAD(built.size, backbone=built.img_backbone, neck=built.img_neck).eval()
    missing, unknown = model.load_state_dict(built.pts_bbox_head.state_dict(), strict=False)
    assert not unknown
    assert all(key.startswith(("backbone.", "neck.")) for key in missing)
    return model


@torch.no_grad()
def test_tensor_mode_is_our_model() -> None:
    built, frame = detector(), one_batch()
    output, expected = built(*batch([frame]), mode="tensor"), as_vad(built)(frame, None)
    for name, value in vars(expected).items():
        assert torch.equal(getattr(output, name), value), name


@torch.no_grad()
def test_predictions_are_our_decoding() -> None:
    built, frame = detector(), one_batch()
    inputs, samples = batch([frame])
    predicted = built(inputs, samples, mode="predict")
    output = as_vad(built)(frame, None)
    assert predicted == samples
    decoded = zip(predicted, decode_boxes(output), decode_lines(output, built.size.pc_range), strict=True)
    for index, (sample, boxes, lines) in enumerate(decoded):
        found = sample.pred_instances_3d
        assert len(found) == len(boxes.scores) > 10
        torch.testing.assert_close(vad_boxes(found.bboxes_3d), boxes.boxes, rtol=1e-6, atol=5e-6)
        assert torch.equal(found.scores_3d, boxes.scores)
        assert torch.equal(found.labels_3d, boxes.labels)
        assert torch.equal(found.fut_trajs.flatten(2), boxes.offsets_m)
        torch.testing.assert_close(found.fut_scores.sum(-1), torch.ones(len(found)))
        assert torch.equal(sample.pred_map_instances.points, lines.points_m)
        assert torch.equal(sample.pred_map_instances.scores, lines.scores)
        assert torch.equal(sample.pred_map_instances.labels, lines.labels)
        assert torch.equal(sample.ego_fut_preds, output.plans_m[index])
        assert torch.equal(sample.bev, output.bev[index])


@torch.no_grad()
def test_history_by_hand_and_as_a_queue_are_the_same() -> None:
    built = detector()
    model = as_vad(built)
    frames = [one_batch(2, seed) for seed in (1, 2, 3)]
    bev = None
    for frame in frames:
        expected = model(frame, bev)
        bev = expected.bev
    queue = built(*batch(frames), mode="predict")
    before = None
    for frame in frames:
        step = built(*batch([frame], before=before), mode="predict")
        before = [sample.bev for sample in step]
    for index in range(2):
        for sample in (queue[index], step[index]):
            assert torch.equal(sample.bev, expected.bev[index])
            assert torch.equal(sample.ego_fut_preds, expected.plans_m[index])


@torch.no_grad()
def test_a_batch_may_mix_clips_that_begin_with_others() -> None:
    built, frame = detector(), one_batch(3, 4)
    history = torch.randn(3, 200, 32, generator=torch.Generator().manual_seed(0))
    before = [history[0], None, history[2]]
    together = built(*batch([frame], before=before), mode="tensor")
    for index in range(3):
        alone = built(*batch([pick(frame, index)], before=[before[index]]), mode="tensor")
        for name, value in per_sample(together, index).items():
            torch.testing.assert_close(value, per_sample(alone, 0)[name], rtol=1e-5, atol=1e-5, msg=name)
    assert torch.equal(history[0], before[0])  # nothing is written into it


def test_losses_are_our_criterions() -> None:
    built, truth = detector().train(), [targets(1), targets(2, agents=0, lines=2)]
    model = as_vad(built).train()
    frames = [one_batch(2, seed) for seed in (1, 2)]
    losses = built(*batch(frames, truth), mode="loss")
    with torch.no_grad():
        bev = model.eval().encode_bev(frames[0], None)
    expected = VADCriterion("e2e")(model.train()(frames[1], bev), truth)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert built.training


def test_frozen_parts_stay_frozen_over_the_history() -> None:
    built = detector().train()
    built.img_neck.eval()
    flags = {name: part.training for name, part in built.named_modules()}
    built(*batch([one_batch(1, 1), one_batch(1, 2)], [targets(1)]), mode="loss")
    assert {name: part.training for name, part in built.named_modules()} == flags
    assert not built.img_backbone.bn1.training


def test_a_train_step_through_the_preprocessor() -> None:
    """Raw BGR images in, as mmdet3d's Runner does; every term is finite and the trainable parameters move."""
    built = detector(use_grid_mask=True).train()
    _, samples = batch([one_batch(2, 1), one_batch(2, 2)], [targets(1), targets(2)])
    images = [torch.randint(0, 256, (12, 3, 60, 96), dtype=torch.uint8) for _ in samples]
    before = {name: value.clone() for name, value in built.named_parameters()}
    optimiser = OptimWrapper(torch.optim.AdamW(built.parameters(), lr=1e-3))
    data = {"inputs": {"img": images}, "data_samples": samples}
    prepared = built.data_preprocessor(copy.deepcopy(data), True)["inputs"]["imgs"]
    assert prepared.shape == (2, 12, 3, 64, 96)
    assert not prepared[..., 60:, :].any()
    expected = (images[0][5, [2, 1, 0], 7, 9].float() - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
        [58.395, 57.12, 57.375]
    )
    torch.testing.assert_close(prepared[0, 5, :, 7, 9], expected)
    logged = built.train_step(data, optimiser)
    assert {"loss", "loss_cls", "loss_map_pts", "loss_plan_reg"} <= set(logged)
    assert all(value.isfinite().all() for value in logged.values())
    moved = {name for name, value in built.named_parameters() if not torch.equal(value, before[name])}
    still = set(before) - moved
    assert {"pts_bbox_head.code_weights", "img_backbone.conv1.weight"} <= still  # frozen
    assert any(name.startswith("img_backbone.layer4") for name in moved)
    assert any(name.startswith("img_neck.") for name in moved)
    assert len(moved) > 0.8 * len([name for name, value in built.named_parameters() if value.requires_grad])


@pytest.mark.parametrize("name", BACKBONES)
def test_any_registered_backbone_and_neck(name: str) -> None:
    backbone, neck = BACKBONES[name]
    built = detector(img_backbone=backbone, img_neck=neck)
    assert built.size.feature_levels == neck["num_outs"]
    with torch.no_grad():
        (sample,) = built(*batch([one_batch(1)]), mode="predict")
    assert sample.ego_fut_preds.isfinite().all()
    losses = built.train()(*batch([one_batch(1)], [targets(3)]), mode="loss")
    sum(losses.values()).backward()
    reached = [value.grad is not None for value in built.img_backbone.parameters() if value.requires_grad]
    assert sum(reached) > 0.5 * len(reached)


def test_without_an_image_network_the_preset_builds_its_own() -> None:
    built = detector(img_backbone=None, img_neck=None, pretrained_backbone=True)
    assert built.img_backbone.norm_eval
    assert built.size.norm == "BN"
    with torch.no_grad():
        built(*batch([one_batch(1)]), mode="predict")


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="together"):
        detector(img_neck=None)
    with pytest.raises(InputError, match=r"\[16\] channels, but the head has embed_dims 32"):
        detector(img_neck={**FPN, "out_channels": 16})
    with pytest.raises(InputError, match="3 levels, but overrides say 2"):
        detector(overrides={**OVERRIDES, "feature_levels": 2})
    with pytest.raises(InputError, match="'bev_height'"):
        detector(overrides={"bev_height": 2})
    with pytest.raises(InputError, match="vad_huge"):
        detector(preset="vad_huge")
    built, frame = detector(), one_batch(1)
    inputs, samples = batch([frame])
    with pytest.raises(InputError, match="Sample 0 has no gt_instances_3d"):
        built(inputs, samples, mode="loss")
    with pytest.raises(InputError, match=r"inputs\['imgs'\] must be"):
        built({"img": inputs["imgs"]}, samples, mode="tensor")
    with pytest.raises(InputError, match="1 samples of 5 images; the model expects 1 of a multiple of 6"):
        built({"imgs": inputs["imgs"][:, :5]}, samples, mode="tensor")
    samples[0].set_metainfo({"can_bus": np.zeros(17)})
    with pytest.raises(InputError, match=r"Sample 0: 'can_bus' has shape \(17,\), expected 1 x 18"):
        built(inputs, samples, mode="tensor")
    _, samples = batch([frame], [targets(1)])
    samples[0].gt_instances_3d.attr_labels = torch.zeros(4, 17)
    with pytest.raises(InputError, match=r"attr_labels has shape \(4, 17\), expected 4 rows of 18 to 34"):
        built(inputs, samples, mode="loss")
    for wrong in (3, [0, 1], []):
        _, samples = batch([frame], [targets(1)])
        samples[0].set_metainfo({"ego_fut_cmd": wrong})
        with pytest.raises(InputError, match=r"'ego_fut_cmd' is .* neither"):
            built(inputs, samples, mode="loss")
    bare = type(samples[0])(metainfo={"can_bus": np.zeros(18)})
    with pytest.raises(InputError, match="Sample 0 has no 'lidar2img'"):
        built(inputs, [bare], mode="predict")


def test_targets_as_stock_pipelines_write_them() -> None:
    """Lists, one-hot commands, 18 columns of futures, few orders of a line: the same losses."""
    built, truth = detector().train(), [targets(5)]
    inputs, samples = batch([one_batch(1)], truth)
    losses = built(inputs, samples, mode="loss")
    sample = samples[0]
    one_hot = np.eye(3)[truth[0].command]
    matrices = [matrix.numpy() for matrix in one_batch(1).lidar2img[0]]
    sample.set_metainfo({"ego_fut_cmd": one_hot, "gt_map_points": truth[0].map_points[:, :2], "lidar2img": matrices})
    sample.set_metainfo({"can_bus": one_batch(1).can_bus[0].tolist()})
    sample.gt_instances_3d.attr_labels = sample.gt_instances_3d.attr_labels[:, :18]
    again = built(inputs, samples, mode="loss")
    for name, value in losses.items():
        torch.testing.assert_close(again[name], value, rtol=1e-6, atol=1e-7)


def test_resnet_config_is_left_alone() -> None:
    """Registries pop `type` from what they build; a user's config must survive."""
    kept = copy.deepcopy(RESNET)
    detector()
    assert kept == RESNET
