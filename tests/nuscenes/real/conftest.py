"""Real nuScenes tables and records, which are under nuScenes' terms and no part of this repository.

SEAD_NUSCENES_DIR names a folder with v1.0-mini (scene-0103 and scene-0916), can_bus/, maps/, samples/, and golden/
(infos of mmdetection3d's converter, an info of VAD's), ego_status_l2.json. Without it there are no such tests.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import DataConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.records import Clip, FrameLabels

VARIABLE = "SEAD_NUSCENES_DIR"
collect_ignore_glob = [] if os.environ.get(VARIABLE) else ["test_*.py"]


@pytest.fixture(scope="session")
def real_root() -> Path:
    root = Path(os.environ[VARIABLE])
    assert root.is_dir(), f"{VARIABLE} names {root}, which is no folder"
    return root


@pytest.fixture(scope="session")
def real_data(real_root: Path) -> DataConfig:
    return DataConfig(root=str(real_root), version="v1.0-mini", pool_split="mini_train", val_split="mini_val")


@pytest.fixture(scope="session")
def real_folder(real_data: DataConfig) -> NuScenesFolder:
    return NuScenesFolder(real_data)


@pytest.fixture(scope="session")
def real_clips(real_folder: NuScenesFolder) -> dict[str, Clip]:
    """By scene name."""
    clips = [real_folder.clip(token, "val") for token in real_folder.scenes("mini_val")]
    return {clip.name: clip for clip in clips}


@pytest.fixture(scope="session")
def real_labels(real_folder: NuScenesFolder, real_clips: dict[str, Clip]) -> dict[str, FrameLabels]:
    """By frame token."""
    return {item.frame_token: item for clip in real_clips.values() for item in real_folder.labels(clip.clip_token)}


@pytest.fixture(scope="session")
def golden_infos(real_root: Path) -> list[dict[str, Any]]:
    return json.loads((real_root / "golden" / "infos_expected.json").read_text())


@pytest.fixture(scope="session")
def golden_record(real_root: Path) -> dict[str, Any]:
    """The one published info in VAD's format."""
    return json.loads((real_root / "golden" / "openemma_vad_info.json").read_text())["info"]
