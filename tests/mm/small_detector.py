"""A detector small enough for tests, and samples for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.registry import MODELS
from mmdet3d.structures import Det3DDataSample
from torch import Tensor

from sead_ray.mm import pack_sample
from sead_ray.model.contract import FrameBatch
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS, FrameTargets
from tests.model.small_vad import frames

OVERRIDES: dict[str, Any] = {
    "embed_dims": 32,
    "ffn_dims": 64,
    "heads": 4,
    "bev_h": 20,
    "bev_w": 10,
    "agent_queries": 12,
    "map_instances": 6,
    "map_threshold": 0.01,
    "dropout": 0.0,
}
RESNET = {
    "type": "mmdet.ResNet",
    "depth": 18,
    "base_channels": 8,
    "out_indices": (2, 3),
    "frozen_stages": 1,
    "norm_eval": True,
    "norm_cfg": {"type": "BN", "requires_grad": False},
}
FPN = {"type": "mmdet.FPN", "in_channels": [32, 64], "out_channels": 32, "num_outs": 3}
CONFIG = {"type": "VAD", "preset": "vad_tiny", "overrides": OVERRIDES, "img_backbone": RESNET, "img_neck": FPN}


def detector(seed: int = 1, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return MODELS.build({**CONFIG, **changes}).eval()


def targets(seed: int, agents: int = 4, lines: int = 3) -> FrameTargets:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(-10, 10, (agents, 9)).astype(np.float32)
    boxes[:, 3:6] = rng.uniform(0.5, 5, (agents, 3))
    boxes[:, 6] = rng.uniform(-3, 3, agents)
    attributes = np.zeros((agents, 34), np.float32)
    attributes[:, :12] = rng.normal(0, 1, (agents, 12))
    attributes[:, 12:18] = np.arange(6) < rng.integers(0, 7, (agents, 1))
    points = np.full((lines, MAP_ORDERS, 20, 2), MAP_ORDER_FILL, np.float32)
    points[:, 0] = rng.uniform((-15, -30), (15, 30), (lines, 20, 2))
    points[:, 1] = points[:, 0, ::-1]
    return FrameTargets(
        boxes=boxes,
        labels=rng.integers(0, 10, agents),
        attributes=attributes,
        map_points=points,
        map_labels=rng.integers(0, 3, lines),
        ego_future=rng.normal(0, 2, (6, 2)).astype(np.float32),
        ego_future_mask=np.array([1, 1, 1, 1, 0, 0], np.float32),
        command=int(rng.integers(0, 3)),
        future_valid=True,
    )


def batch(
    queue: Sequence[FrameBatch],
    truth: Sequence[FrameTargets] | None = None,
    before: Sequence[Tensor | None] | None = None,
) -> tuple[dict[str, Tensor], list[Det3DDataSample]]:
    """Inputs and samples of a queue of frames, as a Det3DDataPreprocessor hands them to the detector."""
    count = len(queue[0].images)
    inputs = {"imgs": torch.cat([frame.images for frame in queue], 1)}
    samples = [
        pack_sample(
            np.stack([frame.lidar2img[i].numpy() for frame in queue]),
            np.stack([frame.can_bus[i].numpy() for frame in queue]),
            truth[i] if truth else None,
            before[i] if before else None,
        )
        for i in range(count)
    ]
    return inputs, samples


def one_batch(count: int = 2, seed: int = 0) -> FrameBatch:
    return frames(count, seed)
