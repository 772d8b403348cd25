"""The whole loop on real parts: synthetic nuScenes folder, Ray Train, Ray Data, report."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from sead_ray.config import RunConfig
from sead_ray.model.weights import load_model
from sead_ray.records import Clip
from sead_ray.report.rounds import rounds_table
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.stages.rounds import run_rounds
from sead_ray.stages.score import read_scores
from sead_ray.stages.select import read_selection
from sead_ray.storage import Store


def test_every_stage_of_every_round_is_published(loop_run: Store) -> None:
    for number in (0, 1):
        for folder in (layout.selection(number), layout.model(number), layout.evaluation(number)):
            assert loop_run.is_published(folder), folder
    assert loop_run.is_published(layout.scores(1))
    assert not loop_run.exists(layout.scores(0))
    assert loop_run.exists(layout.REPORT)
    assert [row.round for row in rounds_table(loop_run)] == [0, 1]


def test_rounds_grow_by_the_budget_without_buying_twice(loop_run: Store) -> None:
    first, second = read_selection(loop_run, 0), read_selection(loop_run, 1)
    assert len(first) == 2
    assert len(first) + len(second) == 5  # of 9 clips: 25 %, then 50 %, to the nearest clip
    tokens = [item.clip_token for item in (*first, *second)]
    assert len(set(tokens)) == len(tokens)


def test_the_rest_of_the_pool_is_scored_by_the_first_model(loop_run: Store) -> None:
    scores = read_scores(loop_run, 1)
    bought = {item.clip_token for item in read_selection(loop_run, 0)}
    assert len(scores) == 9 - 2
    assert not bought & scores.keys()
    version = loop_run.read_json(f"{layout.model(0)}/model.json")["model_version"]
    assert {score.model_version for score in scores.values()} == {version}
    assert all(score.status == "ok" and score.shift_sum > 0 for score in scores.values())


def test_a_clip_scores_the_same_alone(loop_run: Store, loop_config: RunConfig) -> None:
    scores = read_scores(loop_run, 1)
    token = min(scores)
    row = next(row for row in loop_run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA) if row["clip_token"] == token)
    model, card = load_model(loop_run, layout.model(0))
    loaded = load_clip(Clip.from_row(row), loop_config.data.root, loop_config.image)
    (alone,) = score_loaded_clips(model, card["model_version"], [loaded], "cpu", loop_config.score)
    np.testing.assert_allclose(alone.shift_agents, scores[token].shift_agents, rtol=1e-4, atol=1e-6)
    assert alone.is_key == scores[token].is_key


def test_losses_are_logged_and_finite(loop_run: Store) -> None:
    lines = Path(loop_run.path(f"{layout.model(1)}/metrics.jsonl")).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert entries
    assert all(np.isfinite(list(entry["losses"].values())).all() for entry in entries)
    assert entries[-1]["step"] == loop_run.manifest(layout.model(1))["steps"]
    assert {"data", "model", "recording", "first batch"} <= set(entries[0]["start_up_s"])


def test_evaluation_covers_val_and_the_fixed_lines(loop_run: Store) -> None:
    report = loop_run.read_json(f"{layout.evaluation(1)}/evaluation.json")
    frames = {name: report[name]["n_frames"] for name in ("planner", "standing_still", "constant_velocity")}
    assert set(frames.values()) == {3 * 2}  # 8 frames a clip, of which 2 have six later ones
    assert report["standing_still"]["l2_m"]["avg"] > 0


def test_a_finished_run_is_left_alone(loop_run: Store, loop_config: RunConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(loop_run.root).rglob("manifest.json")}
    started = time.monotonic()
    run_rounds(loop_config)
    assert time.monotonic() - started < 30
    assert {path: path.stat().st_mtime_ns for path in Path(loop_run.root).rglob("manifest.json")} == before


@pytest.mark.parametrize("number", [0, 1])
def test_a_model_can_be_loaded_from_its_folder(loop_run: Store, number: int) -> None:
    model, card = load_model(loop_run, layout.model(number))
    assert card["info"]["round"] == number
    assert not model.training


def test_every_round_is_tracked(loop_run: Store) -> None:
    for number in (0, 1):
        rows = [json.loads(line) for line in loop_run.read_bytes(f"tracking/round_{number:02d}.jsonl").splitlines()]
        steps = [row for row in rows if row["kind"] == "step"]
        assert steps
        assert all(row["train/loss"] > 0 for row in steps)
        (round_row,) = [row for row in rows if row["kind"] == "round"]
        assert (
            round_row["eval/l2_m_avg"]
            == loop_run.read_json(f"rounds/{number:02d}/evaluation/evaluation.json")["planner"]["l2_m"]["avg"]
        )
        (checkpoint,) = [row for row in rows if row["kind"] == "checkpoint"]
        assert checkpoint["version"] == loop_run.manifest(f"rounds/{number:02d}/model")["model_version"]
    assert loop_run.read_json("tracking/told.json") == {"jsonl": [0, 1]}
