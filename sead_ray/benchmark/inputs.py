"""Random images with nuScenes' calibration, and plausible labels: what a measurement of speed needs of data."""

from __future__ import annotations

import math

import numpy as np
import torch

from sead_ray.geometry import image_from_lidar
from sead_ray.model.contract import FrameBatch
from sead_ray.records import AGENT_CLASSES, FUTURE_STEPS, MAP_CLASSES, MAP_POINTS
from sead_ray.synthetic.rig import CAMERAS, EGO_FROM_LIDAR
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS, FrameTargets

SOURCE_WIDTH, SOURCE_HEIGHT = 1600, 900
STEP_M = 2.5  # between two frames
AGENTS, LINES = 20, 10


def random_frame(batch: int, height: int, width: int, seed: int, first: bool = False) -> FrameBatch:
    """A frame of a car that drives straight on; `first`: of a clip, so that nothing moved."""
    generator = torch.Generator().manual_seed(seed)
    identity = np.eye(4)
    lidar2img = np.stack(
        [
            image_from_lidar(
                camera.intrinsics(SOURCE_WIDTH, SOURCE_HEIGHT),
                camera.ego_from_camera.matrix,
                identity,
                identity,
                EGO_FROM_LIDAR.matrix,
                width / SOURCE_WIDTH,
            )
            for camera in CAMERAS
        ]
    )
    can_bus = torch.zeros(batch, 18)
    can_bus[:, 3] = 1.0
    can_bus[:, 0] = 0.0 if first else STEP_M
    return FrameBatch(
        images=torch.randn(batch, len(CAMERAS), 3, height, width, generator=generator),
        lidar2img=torch.from_numpy(lidar2img).float().repeat(batch, 1, 1, 1),
        can_bus=can_bus,
    )


def random_targets(seed: int) -> FrameTargets:
    """Cars and lanes at random inside VAD's range."""
    rng = np.random.default_rng(seed)
    heading = rng.uniform(-math.pi, math.pi, AGENTS)
    speed = rng.uniform(0, 8, AGENTS)
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
    centre = rng.uniform((-13, -27, -1), (13, 27, 0), (AGENTS, 3))
    size = rng.uniform((0.6, 0.8, 1.4), (2.5, 6.0, 2.5), (AGENTS, 3))
    attributes = np.zeros((AGENTS, 34), np.float32)
    attributes[:, : 2 * FUTURE_STEPS] = np.tile(0.5 * velocity, FUTURE_STEPS)
    attributes[:, 2 * FUTURE_STEPS : 3 * FUTURE_STEPS] = 1.0
    points = np.full((LINES, MAP_ORDERS, MAP_POINTS, 2), MAP_ORDER_FILL, np.float32)
    ends = rng.uniform((-14, -29), (14, 29), (LINES, 2, 2))
    share = np.linspace(0, 1, MAP_POINTS)[None, :, None]
    points[:, 0] = ends[:, :1] * (1 - share) + ends[:, 1:] * share
    points[:, 1] = points[:, 0, ::-1]
    return FrameTargets(
        boxes=np.concatenate([centre, size, -heading[:, None] - math.pi / 2, velocity], 1).astype(np.float32),
        labels=rng.integers(0, len(AGENT_CLASSES), AGENTS),
        attributes=attributes,
        map_points=points,
        map_labels=rng.integers(0, len(MAP_CLASSES), LINES),
        ego_future=np.tile(np.array([0.0, STEP_M], np.float32), (FUTURE_STEPS, 1)),
        ego_future_mask=np.ones(FUTURE_STEPS, np.float32),
        command=2,
        future_valid=True,
    )
