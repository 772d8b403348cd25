"""A VAD small enough for tests, and frames for it."""

from __future__ import annotations

import dataclasses
import math

import torch

from sead_ray.model.contract import FrameBatch, VADOutput
from sead_ray.model.presets import PRESETS, VADSize
from sead_ray.model.vad import VAD

SMALL = dataclasses.replace(
    PRESETS["vad_nano"],
    embed_dims=32,
    ffn_dims=64,
    backbone_channels=8,
    bev_h=20,
    bev_w=10,
    agent_queries=12,
    map_instances=6,
    map_points=5,
    map_distance=0.4,
    map_threshold=0.01,  # a fresh model scores every class near 0.01
)
QUIRKS = dataclasses.replace(SMALL, parity_quirks=True, rotate_center=(20, 10), ego_status=False)


def camera_ring(seed: int) -> torch.Tensor:
    """(6, 4, 4): pinhole cameras all around, slightly different per seed."""
    generator = torch.Generator().manual_seed(seed)
    matrices = []
    for yaw_deg in (0.0, -55.0, 55.0, 180.0, 110.0, -110.0):
        yaw = math.radians(yaw_deg + 6 * float(torch.rand(1, generator=generator)))
        forward = torch.tensor([-math.sin(yaw), math.cos(yaw), 0.0])
        down = torch.tensor([0.0, 0.0, -1.0])
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward])
        focal = 60.0 + 20 * float(torch.rand(1, generator=generator))
        lens = torch.eye(4)
        lens[:3, :3] = torch.tensor([[focal, 0, 48.0], [0, focal, 32.0], [0, 0, 1.0]])
        matrices.append(lens @ pose)
    return torch.stack(matrices)


def frames(batch: int, seed: int = 0) -> FrameBatch:
    generator = torch.Generator().manual_seed(seed)
    can_bus = torch.randn(batch, 18, generator=generator)
    can_bus[:, 17] *= 20
    images = torch.randn(batch, 6, 3, 64, 96, generator=generator)
    return FrameBatch(images, torch.stack([camera_ring(seed * 10 + i) for i in range(batch)]), can_bus)


def pick(frame: FrameBatch, index: int) -> FrameBatch:
    rows = slice(index, index + 1)
    return FrameBatch(frame.images[rows], frame.lidar2img[rows], frame.can_bus[rows])


def per_sample(output: VADOutput, index: int) -> dict[str, torch.Tensor]:
    layered = {"class_logits", "boxes", "map_class_logits", "map_boxes", "map_points"}
    return {
        field.name: getattr(output, field.name)[:, index]
        if field.name in layered
        else getattr(output, field.name)[index]
        for field in dataclasses.fields(output)
    }


def fresh(size: VADSize, seed: int = 1) -> VAD:
    torch.manual_seed(seed)
    return VAD(size).eval()
