"""A small py123d data root: three logs of one town to select from, one to evaluate on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sead_ray.config import DataConfig
from tests.py123d.scene_writer import LogPlan, write_log, write_map

PLANS = {
    "left": LogPlan("nuplan_train", "left", yaw_rate=0.15, n_rows=9),
    "right": LogPlan("nuplan_train", "right", yaw_rate=-0.15, n_rows=46, rate_hz=10, embedded=False),
    "ahead": LogPlan("nuplan_train", "ahead", n_rows=12, with_motion=False),
    "val": LogPlan("nuplan_val", "val", yaw_rate=0.02, n_rows=9),
}


@pytest.fixture(scope="session")
def py123d_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("py123d")
    for plan in PLANS.values():
        write_log(root, plan)
    write_map(root / "maps" / "nuplan" / "nuplan_us-nv-las-vegas-strip.arrow")
    return root


@pytest.fixture
def py123d_copy(py123d_root: Path, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return Path(shutil.copytree(py123d_root, tmp_path / "copy"))


@pytest.fixture(scope="session")
def py123d_data(py123d_root: Path) -> DataConfig:
    return DataConfig(root=str(py123d_root), format="py123d", clip_frames=8)
