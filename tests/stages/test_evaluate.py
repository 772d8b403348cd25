"""Evaluation of a round's model: perception beside planning, the same as computed in one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from jobs import evaluate_model as jobs_evaluate
from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.evaluation.detection import PROTOCOLS, detection_metrics
from sead_ray.evaluation.perception import ClipPerception, clip_perception, map_and_motion_report
from sead_ray.evaluation.predictions import decode_predictions
from sead_ray.model.weights import load_model
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip, run_clips
from sead_ray.stages.evaluate import PERCEPTION, predict_clips
from sead_ray.stages.label_store import read_labels
from sead_ray.storage import Store


@pytest.fixture(scope="module")
def report(loop_run: Store) -> dict[str, Any]:
    return loop_run.read_json(f"{layout.evaluation(1)}/evaluation.json")


def in_this_process(run: Store, config: RunConfig) -> list[ClipPerception]:
    """Round 1's model over val, a clip at a time."""
    model, _ = load_model(run, layout.model(1))
    clips = []
    for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA):
        if row["split"] == "val":
            clip = Clip.from_row(row)
            labels = read_labels(run, config, {frame.token for frame in clip.frames}, {clip.clip_token})
            targets = [build_targets(clip, t, labels, points="lidar") for t in range(len(clip.frames))]
            outputs = run_clips(model, [load_clip(clip, config.data.root, config.image)], "cpu")
            found = [decode_predictions(output, model.size.pc_range)[0] for _, _, output in outputs]
            clips.append(clip_perception(clip, found, targets, labels))
    return clips


def assert_close(found: Any, expected: Any, path: str = "") -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_close(found[key], value, f"{path}.{key}")
    elif isinstance(expected, (float, list)):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=path)
    else:
        assert found == expected, path


def test_perception_is_what_one_process_finds(loop_run: Store, loop_config: RunConfig, report: dict[str, Any]) -> None:
    clips = in_this_process(loop_run, loop_config)
    frames = [frame for clip in clips for frame in clip.detections]
    assert len(frames) == 3 * 8  # all of val, also frames without a whole future
    for protocol in PROTOCOLS:
        assert_close(report["detection"][protocol], detection_metrics(frames, protocol), protocol)
    expected = map_and_motion_report(clips)
    assert_close(report["map"], expected["map"])
    assert_close(report["motion"], expected["motion"])
    assert report["motion"]["car"]["n_agents"] > 0
    assert report["map"]["classes"]["boundary"]["n_annotated"] > 0


def test_both_planning_conventions_are_reported(report: dict[str, Any]) -> None:
    planner = report["planner"]
    assert {"l2_m", "collision_percent", "uniad_l2_m", "uniad_collision_percent"} <= planner.keys()
    assert planner["l2_m"]["3s"] != planner["uniad_l2_m"]["3s"]


def copy_of(loop_run: Store, tmp_path: Path) -> Store:
    """A run with clips, labels and round 1's model, not evaluated yet."""
    run = Store(str(tmp_path / "run"))
    for folder in (layout.CLIPS, layout.LABELS, layout.model(1)):
        shutil.copytree(loop_run.path(folder), run.path(folder))
    return run


def evaluate_command(config: RunConfig, tmp_path: Path, *options: str) -> list[str]:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return ["--config", str(file), *options]


def run_command(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    run_job("", jobs_evaluate.job, jobs_evaluate.plan, argv, schema=jobs_evaluate.EvaluateModelConfig, prog="job")
    return capsys.readouterr().out


def test_a_model_from_elsewhere_is_evaluated_without_a_round_and_perception_can_be_left_out(
    loop_run: Store, loop_config: RunConfig, report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(loop_run, tmp_path)
    model_dir = tmp_path / "models" / "mine"
    model_dir.parent.mkdir()
    Path(run.path("rounds/01/model")).rename(model_dir)
    config = loop_config.model_copy(update={"run_dir": run.root})
    argv = evaluate_command(config, tmp_path, "--model_dir", str(model_dir), "--evaluate.perception", "false")
    version = json.loads((model_dir / "model.json").read_text())["model_version"]
    assert f"model {version} on 3 val clips" in run_command(capsys, [*argv, "--dry-run"])
    assert not run.exists("evaluations")
    answer, path = run_command(capsys, argv).rsplit("\n", 2)[:2]
    assert path == run.path(f"evaluations/{version}/evaluation.json")
    planning = {name: report[name] for name in report if name not in PERCEPTION}
    assert_close(run.read_json(f"evaluations/{version}/evaluation.json"), planning)
    assert run.manifest(f"evaluations/{version}")["model_version"] == version
    assert not run.exists(f"evaluations/{version}/model")  # the copy is gone
    shown = json.loads(answer)
    assert shown.keys() == planning.keys() - {"slices", "clips"}
    assert shown["planner"]["uniad_l2_m"] == pytest.approx(report["planner"]["uniad_l2_m"], rel=1e-3)
    assert run_command(capsys, argv).endswith(f"{path}\n")  # once more: what is published stays


def test_a_model_made_for_other_images_is_refused(
    loop_run: Store, loop_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(loop_run, tmp_path)
    card = run.read_json("rounds/01/model/model.json")
    run.write_json("rounds/01/model/model.json", {**card, "info": {**card["info"], "image": {"width": 640}}})
    config = loop_config.model_copy(update={"run_dir": run.root})
    argv = evaluate_command(config, tmp_path, "--model_dir", run.path("rounds/01/model"))
    with pytest.raises(SystemExit) as ended:
        run_command(capsys, argv)
    assert ended.value.code == 2
    assert "--image.width 640" in capsys.readouterr().err
    assert not run.exists("evaluations")


def test_the_command_shows_perception_in_a_screenful(
    loop_run: Store, loop_config: RunConfig, report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = run_command(capsys, evaluate_command(loop_config, tmp_path, "--round", "1"))
    shown = json.loads(answer.rsplit("\n", 2)[0])
    assert shown.keys() == report.keys() - {"slices", "clips"}
    assert shown["detection"]["nuscenes"].keys() == {"mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE"}
    assert shown["motion"] == report["motion"]
    assert answer.count("\n") < 200


@pytest.mark.parametrize(("branches", "what"), [("reg_branches", "plan"), ("cls_branches", "scores")])
def test_a_model_that_has_diverged_is_refused_by_frame(
    loop_run: Store, loop_config: RunConfig, branches: str, what: str
) -> None:
    model, _ = load_model(loop_run, layout.model(1))
    with torch.no_grad():
        getattr(model.agents, branches)[-1][-1].bias.fill_(float("nan"))
    row = next(row for row in loop_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA) if row["split"] == "val")
    clip = load_clip(Clip.from_row(row), loop_config.data.root, loop_config.image)
    with pytest.raises(InputError, match=rf"The model's {what} of frame {clip.clip.frames[0].token} .* not finite"):
        predict_clips(model, "v", [clip], "cpu", decode=True)
