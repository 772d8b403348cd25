"""What people see of clips: the table with both sources of Acc and Yaw, and one clip in full."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs.inspect_clips import InspectConfig, job, plan
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.evaluation.baselines import constant_velocity_plans, mean_l2_m, step_l2_m
from sead_ray.evaluation.planning import frame_planning, summarise
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.targets import build_targets
from sead_ray.stages import layout
from sead_ray.stages.score import pool_tokens
from sead_ray.stages.stand_ins import write_pool
from sead_ray.storage import Store


@pytest.fixture(scope="module")
def folder(tiny_config: RunConfig) -> NuScenesFolder:
    return NuScenesFolder(tiny_config.data)


def inspect(config: RunConfig, **own: object) -> str:
    return job(InspectConfig.model_validate(config.model_dump() | own))


def test_table_shows_both_sources(tiny_config: RunConfig, folder: NuScenesFolder) -> None:
    lines = inspect(tiny_config).splitlines()
    assert len([line for line in lines if line.startswith("scene-")]) == 12
    by_name = {line.split()[0]: line.split() for line in lines if line.startswith("scene-")}
    for token in folder.scenes("train"):
        clip = folder.clip(token, "pool")
        row, dynamics = by_name[clip.name], folder.dynamics(clip)
        assert row[7] == clip.dynamics_source
        assert dynamics[clip.dynamics_source] == (clip.acc_std_mps2, clip.yaw_sum_rad)
        shown = [format(dynamics[s][k], ".3f") if s in dynamics else "-" for k in (0, 1) for s in ("can", "pose")]
        assert row[8:] == shown
    assert {"can", "pose"} == {row[7] for row in by_name.values()}


def test_constant_velocity_is_the_planning_metrics(tiny_config: RunConfig, folder: NuScenesFolder) -> None:
    records, steps = [], []
    for token in folder.scenes("train"):
        clip = folder.clip(token, "pool")
        labels = {item.frame_token: item for item in folder.labels(token)}
        plans = constant_velocity_plans(clip)
        records += [frame_planning(plans[t], build_targets(clip, t, labels)) for t in range(1, len(clip.frames))]
        steps.append(step_l2_m(clip, plans))
    averaged, at_horizon = mean_l2_m(np.concatenate(steps))
    summary = summarise(records)
    assert averaged == pytest.approx(list(summary["l2_m"].values()), abs=1e-5)
    assert at_horizon == pytest.approx(list(summary["uniad_l2_m"].values()), abs=1e-5)


def test_one_clip_in_full(tiny_config: RunConfig, folder: NuScenesFolder) -> None:
    token = folder.scenes("val")[0]
    clip = folder.clip(token, "val")
    shown = json.loads(inspect(tiny_config, clip=clip.name, boxes=True))
    assert shown == json.loads(inspect(tiny_config, clip=token, boxes=True))
    assert shown["behaviour"] == clip.behaviour
    assert [frame["token"] for frame in shown["frames"]] == [frame.token for frame in clip.frames]
    assert shown["frames"][0]["fut_valid_flag"] is True
    assert shown["frames"][-1]["fut_valid_flag"] is False
    assert len(shown["frames"][0]["gt_boxes"][0]) == 7
    assert shown["frames"][0]["map_vectors"]
    assert "gt_boxes" not in json.loads(inspect(tiny_config, clip=clip.name))["frames"][0]


def test_an_unknown_clip_is_named(tiny_config: RunConfig) -> None:
    with pytest.raises(InputError, match="no scene 'scene-0'"):
        inspect(tiny_config, clip="scene-0")
    assert plan(InspectConfig.model_validate(tiny_config.model_dump())).startswith("Would print 12 clip(s)")


def test_quarantined_clips_are_listed_with_their_reasons(tmp_path: Path) -> None:
    run = Store(str(tmp_path / "run"))
    config = InspectConfig(run_dir=run.root, quarantined=True)
    with pytest.raises(InputError, match="is not the folder of a run"):
        job(config)
    write_pool(run, 100, frames=2)
    assert job(config) == f"No clip of {run.root} is quarantined."
    token = pool_tokens(run)[7].as_py()
    run.write_json(layout.QUARANTINE, {token: "the worker process died 3 times", "of another pool": ""})
    head, *lines, last = job(config).splitlines()
    assert head.split() == ["clip", "scene", "reason"]
    assert sorted(line.split(maxsplit=2) for line in lines if "pool" not in line) == [
        [token, "stand-in", "the worker process died 3 times"]
    ]
    assert [line.split() for line in lines if "pool" in line] == [["of", "another", "pool", "-", "-"]]
    assert last == f"2 clip(s), from {run.path(layout.QUARANTINE)}"
    assert "quarantined clips of" in plan(config)
