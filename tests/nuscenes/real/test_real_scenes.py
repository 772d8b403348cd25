"""All 81 key frames of two real scenes against independent figures, to 1e-3."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.import_infos import ImportConfig, job
from sead_ray.config import DataConfig, RunConfig
from sead_ray.evaluation.baselines import constant_velocity_plans, standing_still_plans
from sead_ray.evaluation.planning import FramePlanning, frame_planning, summarise
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.targets import build_targets
from sead_ray.nuscenes.vad_info import drive_info, label_info
from sead_ray.records import Clip, FrameLabels
from sead_ray.storage import Store
from tests.nuscenes.compare_infos import differences, worst
from tests.nuscenes.compare_runs import unequal
from tests.nuscenes.devkit_infos import DevkitInfos

Clips = dict[str, Clip]
Labels = dict[str, FrameLabels]


def infos_of(clips: Clips, labels: Labels) -> dict[str, dict[str, Any]]:
    return {
        frame.token: drive_info(clip, index) | label_info(clip, index, labels)
        for clip in clips.values()
        for index, frame in enumerate(clip.frames)
    }


def test_the_converters_infos(real_clips: Clips, real_labels: Labels, golden_infos: list[dict[str, Any]]) -> None:
    ours, found = infos_of(real_clips, real_labels), []
    for info in golden_infos:
        expected = {**info, "gt_velocity": [[np.nan if v is None else v for v in row] for row in info["gt_velocity"]]}
        del expected["scene"]
        found.append(differences(ours[info["token"]], expected))
    assert len(found) == len(ours) == 81
    assert {name: value for name, value in worst(found).items() if value > 1e-3} == {}


def test_every_field_that_the_devkit_gives(real_root: Path, real_clips: Clips, real_labels: Labels) -> None:
    devkit, ours = DevkitInfos(str(real_root), "v1.0-mini"), infos_of(real_clips, real_labels)
    found = [differences(ours[info["token"]], info) for name in real_clips for info in devkit.scene(name)]
    assert len(found) == 81
    assert {name: value for name, value in worst(found).items() if value > 1e-3} == {}


def test_targets_are_the_infos_filtered_as_vad_does(
    real_clips: Clips, real_labels: Labels, golden_infos: list[dict[str, Any]]
) -> None:
    golden = {info["token"]: info for info in golden_infos}
    for clip in real_clips.values():
        for index, frame in enumerate(clip.frames):
            info, targets = golden[frame.token], build_targets(clip, index, real_labels)
            boxes = np.array(info["gt_boxes"])
            detection = np.array([name.islower() and "." not in name for name in info["gt_names"]])
            kept = np.array(info["valid_flag"]) & detection & (np.abs(boxes[:, :2]) < (15, 30)).all(axis=1)
            np.testing.assert_allclose(targets.boxes[:, :7], boxes[kept], atol=1e-3)


def records(clip: Clip, labels: Labels, plans: np.ndarray) -> list[FramePlanning]:
    """Of the frames that have one before them."""
    return [frame_planning(plans[t], build_targets(clip, t, labels)) for t in range(1, len(clip.frames))]


@pytest.mark.parametrize(("name", "planner"), [("cv", constant_velocity_plans), ("stationary", standing_still_plans)])
@pytest.mark.parametrize("scenes", [["scene-0103"], ["scene-0916"], ["scene-0103", "scene-0916"]])
def test_baselines_in_both_conventions(
    real_root: Path, real_clips: Clips, real_labels: Labels, name: str, planner: Any, scenes: list[str]
) -> None:
    golden = json.loads((real_root / "ego_status_l2.json").read_text())["results"][name]
    expected = golden[scenes[0] if len(scenes) == 1 else "all"]
    summary = summarise([r for s in scenes for r in records(real_clips[s], real_labels, planner(real_clips[s]))])
    assert summary["n_frames"] == expected["count"]
    for ours, theirs in (("l2_m", "mean_over_horizon_VAD_STP3"), ("uniad_l2_m", "at_horizon_UniAD")):
        for horizon in ("1s", "2s", "3s", "avg"):
            assert summary[ours][horizon] == pytest.approx(expected[theirs][horizon], abs=1e-3)


def test_acc_and_yaw_of_both_sources(real_data: DataConfig, real_clips: Clips) -> None:
    can = real_clips["scene-0103"]
    pose = NuScenesFolder(real_data.model_copy(update={"can_bus": "off"})).clip(can.clip_token, "val")
    assert (can.dynamics_source, pose.dynamics_source) == ("can", "pose")
    assert can.acc_std_mps2 == pytest.approx(0.223, abs=1e-3)
    assert pose.acc_std_mps2 == pytest.approx(0.175, abs=1e-3)
    assert can.yaw_sum_rad == pytest.approx(pose.yaw_sum_rad, rel=0.5)  # 50 Hz sees more wiggling than 2 Hz
    assert real_clips["scene-0916"].dynamics_source == "pose"


def test_importing_infos_equals_the_tables(
    real_root: Path, real_data: DataConfig, real_clips: Clips, tmp_path: Path
) -> None:
    devkit = DevkitInfos(str(real_root), "v1.0-mini", raw_names=True)  # 23 categories, as their older table has them
    files = {"train_infos": "scene-0103", "val_infos": "scene-0916"}
    for name, scene in files.items():
        (tmp_path / name).write_bytes(pickle.dumps(devkit.file([scene]), 4))
    paths = {name: str(tmp_path / name) for name in files}
    config = RunConfig(run_dir=str(tmp_path / "run"), data=real_data)
    job(ImportConfig.model_validate(config.model_dump() | paths))
    from tests.nuscenes.compare_runs import clip_rows

    imported = clip_rows(Store(config.run_dir))
    for clip in real_clips.values():
        row = clip.to_row() | {"split": imported[clip.clip_token]["split"]}
        assert list(unequal(imported[clip.clip_token], row, 1e-5)) == []
