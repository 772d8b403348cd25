"""One labelled clip of the tiny world, and what a round asks of it. No Ray."""

from __future__ import annotations

import pytest

from sead_ray.config import RunConfig
from sead_ray.labels.sources import Sources
from sead_ray.labels.task import LabelTask, label_task
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.lidar import lidar_keys
from sead_ray.records import Clip, FrameLabels
from sead_ray.storage import Store


@pytest.fixture(scope="session")
def world_folder(tiny_config: RunConfig) -> NuScenesFolder:
    return NuScenesFolder(tiny_config.data)


@pytest.fixture(scope="session")
def world_clip(world_folder: NuScenesFolder) -> Clip:
    return world_folder.clip(world_folder.pool_scenes()[0], "pool")


@pytest.fixture(scope="session")
def truth(world_folder: NuScenesFolder, world_clip: Clip) -> dict[str, FrameLabels]:
    """The oracle's labels of the clip, by frame token."""
    return {item.frame_token: item for item in world_folder.labels(world_clip.clip_token)}


@pytest.fixture(scope="session")
def task(world_clip: Clip) -> LabelTask:
    """Frames 3 to 5 of eight, with two neighbours on either side."""
    return label_task(world_clip, [frame.token for frame in world_clip.frames[3:6]], context=2)


@pytest.fixture(scope="session")
def sources(tiny_config: RunConfig, world_clip: Clip) -> Sources:
    data = Store(tiny_config.data.root)
    keys = lidar_keys(data, tiny_config.data.version, {frame.token for frame in world_clip.frames})
    return Sources(data, keys, files_at="s3://labels/round-1")
