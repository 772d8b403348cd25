"""VAD as a `Base3DDetector` of mmdet3d, with any registered image backbone and neck."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from mmdet3d.models.detectors import Base3DDetector
from mmdet3d.registry import MODELS
from torch import Tensor, nn

from sead_ray.errors import InputError
from sead_ray.mm.names import name_as_upstream
from sead_ray.mm.samples import add_predictions, frame_batches, frame_targets
from sead_ray.model.backbone import build_image_network
from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.eval_mode import eval_mode
from sead_ray.model.presets import VADSize, sized
from sead_ray.model.vad import VADHead, laid_out
from sead_ray.nuscenes.images import MEAN_RGB, SIZE_DIVISOR, STD_RGB
from sead_ray.training.augment import grid_mask
from sead_ray.training.criterion import Preset, VADCriterion

PROBE_PIXELS = 64  # side of the empty image that tells what an image network gives


@MODELS.register_module(name="VAD")
class VADDetector(Base3DDetector):
    """VAD with mmdet3d's three modes. It keeps nothing between calls: history goes in and out with the samples.

    Its `state_dict` has hustvl/VAD's names: `load_from` takes a published checkpoint, and a saved `state_dict` is one
    that upstream loads and `jobs.import_checkpoint` reads (of a Runner's file, which holds mmengine's objects too, save
    the `state_dict` alone). Parameters begin with `img_backbone`, `img_neck`, `pts_bbox_head`, for `paramwise_cfg`.

    What a sample holds (B samples, F frames of a queue ending with the current one, K cameras), in its metainfo:
        lidar2img: (K, 4, 4) or (F, K, 4, 4), lidar points to pixels of the images as the network gets them.
        can_bus: (18,) or (F, 18) VAD's vector; [0:3] and [17] are differences to the frame before, 0 on the first.
        For the losses: ego_fut_trajs (6, 2) per-step offsets in metres, ego_fut_masks (6,), ego_fut_cmd (index or
        one-hot of right, left, straight); gt_map_points (m, orders <= 19, 20, 2) metres, each line in every
        equivalent order (`sead_ray.nuscenes.map_targets`), and gt_map_labels (m,).
    and in its data fields:
        prev_bev: (Q, C) the `bev` that the frame before (of the queue's first) gave; absent at a clip's start.
        gt_instances_3d: bboxes_3d (box_dim 9: with velocity), labels_3d (`records.AGENT_CLASSES`), and attr_labels
        (n, 18 or VAD's 34): futures as 6 per-step offsets x, y in lidar axes, then their 6 masks.
    mode="predict" adds:
        pred_instances_3d: bboxes_3d, scores_3d, labels_3d, fut_trajs (n, modes, 6, 2) per-step offsets, fut_scores.
        pred_map_instances: points (l, 20, 2) metres, scores, labels (`records.MAP_CLASSES`).
        ego_fut_preds: (3, 6, 2) per-step offsets for each command. bev: (Q, C), the next frame's prev_bev.
    mode="loss" gives VAD's named terms; mode="tensor" the `VADOutput`. In all modes inputs["imgs"] is
    (B, F * K, 3, H, W), the queue oldest first, as `Det3DDataPreprocessor` stacks multi-view images.

    Args:
        preset, overrides: size of the head, as in `ModelConfig`.
        img_backbone, img_neck: any registered ones, both or neither; without them the preset's ResNet and FPN.
            The neck's levels set the number of the head's; it must give `embed_dims` channels.
        pretrained_backbone: of the preset's ResNet: batch norm and first stage frozen, as published weights need.
        loss_preset: upstream's training stage: stage_1, stage_2 or e2e.
        use_grid_mask: GridMask on the current frame in training (upstream: on).
        data_preprocessor: by default a `Det3DDataPreprocessor` for BGR images, with VAD's mean, deviation, padding.
    """

    def __init__(
        self,
        preset: str = "vad_tiny",
        overrides: dict[str, Any] | None = None,
        img_backbone: dict[str, Any] | None = None,
        img_neck: dict[str, Any] | None = None,
        pretrained_backbone: bool = False,
        loss_preset: Preset = "e2e",
        use_grid_mask: bool = False,
        data_preprocessor: dict[str, Any] | nn.Module | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(_preprocessor(data_preprocessor), init_cfg)
        overrides = dict(overrides or {})
        size = sized(preset, overrides, norm="BN" if pretrained_backbone else "GN")
        if (img_backbone is None) != (img_neck is None):
            raise InputError("VAD needs img_backbone and img_neck together: their channels depend on each other.")
        if img_backbone is None or img_neck is None:
            self.img_backbone, self.img_neck = build_image_network(size, pretrained_backbone)
        else:
            self.img_backbone, self.img_neck = MODELS.build(img_backbone), MODELS.build(img_neck)
            size = _fitted(size, self.img_backbone, self.img_neck, overrides)
        self.pts_bbox_head = VADHead(size)
        self.criterion = VADCriterion(loss_preset, size.pc_range)
        self.use_grid_mask = use_grid_mask
        name_as_upstream(self)

    @property
    def size(self) -> VADSize:
        return self.pts_bbox_head.size

    def extract_feat(self, batch_inputs: Tensor) -> list[Tensor]:
        """(N, 3, H, W) images to the neck's levels, each (N, C, h, w)."""
        return _levels(self.img_neck(self.img_backbone(laid_out(batch_inputs))))

    # Any: mmdet3d's inputs are a dict and its samples another class, which mmdet's signatures do not admit.
    def loss(self, batch_inputs: Any, batch_data_samples: Any, **_: Any) -> dict[str, Tensor]:
        """VAD's weighted terms; their sum is the loss."""
        output = self._forward(batch_inputs, batch_data_samples)
        targets = [frame_targets(sample, index) for index, sample in enumerate(batch_data_samples)]
        return self.criterion(output, targets)

    def predict(self, batch_inputs: Any, batch_data_samples: Any, **_: Any) -> Any:
        """The samples with predictions, by falling score; as in VAD without threshold or suppression."""
        samples = list(batch_data_samples)
        output = self._forward(batch_inputs, samples)
        agents = add_predictions(samples, output, self.size.pc_range)
        return self.add_pred_to_datasample(samples, agents)

    def _forward(self, batch_inputs: Any, batch_data_samples: Any = None, **_: Any) -> VADOutput:
        samples = list(batch_data_samples or [])
        *earlier, current = frame_batches(batch_inputs.get("imgs"), samples, self.size.num_cameras)
        before = self._history(earlier, [sample.get("prev_bev") for sample in samples])
        if self.training and self.use_grid_mask:
            images = grid_mask(current.images, torch.default_generator)
            current = dataclasses.replace(current, images=images)
        return self.pts_bbox_head.decode(self._encode(current, before), current.can_bus)

    def _history(self, frames: Sequence[FrameBatch], before: list[Tensor | None]) -> list[Tensor | None]:
        """The queue's earlier frames: eval mode, no gradient (VAD)."""
        with torch.no_grad(), eval_mode(self):
            for frame in frames:
                before = list(self._encode(frame, before))
        return before

    def _encode(self, frame: FrameBatch, before: list[Tensor | None]) -> Tensor:
        """(B, Q, C); samples with and without a frame before go through apart, since their attention differs."""
        rows: list[Tensor | None] = [None] * len(before)
        for begins in (True, False):
            chosen = [index for index, bev in enumerate(before) if (bev is None) == begins]
            if not chosen:
                continue
            part = frame
            if len(chosen) < len(before):
                part = FrameBatch(frame.images[chosen], frame.lidar2img[chosen], frame.can_bus[chosen])
            bevs = [bev.to(part.images.device) for index in chosen if (bev := before[index]) is not None]
            features = self.extract_feat(part.images.flatten(0, 1))
            encoded = self.pts_bbox_head.encode(features, part, torch.stack(bevs) if bevs else None)
            for index, row in zip(chosen, encoded, strict=True):
                rows[index] = row
        return torch.stack([row for row in rows if row is not None])


def _preprocessor(given: dict[str, Any] | nn.Module | None) -> Any:
    if isinstance(given, nn.Module):
        return given
    normal = {"mean": MEAN_RGB, "std": STD_RGB, "bgr_to_rgb": True, "pad_size_divisor": SIZE_DIVISOR}
    return MODELS.build(given or {"type": "Det3DDataPreprocessor", **normal})


def _levels(features: Any) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)


def _fitted(size: VADSize, backbone: nn.Module, neck: nn.Module, overrides: dict[str, Any]) -> VADSize:
    """The size with as many feature levels as the neck gives of an empty image.

    Raises:
        InputError: the neck has other channels than the head, or other levels than `overrides` say.
    """
    states = backbone.training, neck.training
    backbone.eval(), neck.eval()
    with torch.no_grad():
        device = next(backbone.parameters()).device
        levels = _levels(neck(backbone(torch.zeros(1, 3, PROBE_PIXELS, PROBE_PIXELS, device=device))))
    backbone.train(states[0]), neck.train(states[1])
    channels = sorted({int(level.shape[1]) for level in levels})
    if channels != [size.embed_dims]:
        raise InputError(f"img_neck gives {channels} channels, but the head has embed_dims {size.embed_dims}.")
    if overrides.get("feature_levels", len(levels)) != len(levels):
        raise InputError(f"img_neck gives {len(levels)} levels, but overrides say {overrides['feature_levels']}.")
    rows = max(size.level_embed_rows, len(levels))
    return dataclasses.replace(size, feature_levels=len(levels), level_embed_rows=rows)
