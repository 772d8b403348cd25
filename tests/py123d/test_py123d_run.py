"""Logs of py123d on their way: prepared, scored, selected from, evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.cli import run_job
from jobs.prepare_clips import PrepareJobConfig, job, plan
from sead_ray.config import DataConfig, ImageConfig, RunConfig, SelectConfig
from sead_ray.model.vad import build_model
from sead_ray.model.weights import save_model
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.clips import LogClips
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.evaluate import evaluate_model
from sead_ray.stages.prepare import prepare
from sead_ray.stages.rounds import buy
from sead_ray.stages.score import read_scores, score_pool
from sead_ray.stages.select import read_pool, read_selection
from sead_ray.storage import Store
from tests.stages.conftest import SMALL_VAD

pytestmark = pytest.mark.usefixtures("ray_cluster")


def configured(tmp_path: Path, data: DataConfig, tiny_config: RunConfig, name: str = "run") -> RunConfig:
    update = {"run_dir": str(tmp_path / name), "data": data, "model": SMALL_VAD}
    select = SelectConfig(rounds=[0.4, 0.8], without_key_frame="keep_clip")
    return tiny_config.model_copy(update={**update, "image": ImageConfig(width=64), "select": select})


def test_prepared_scored_selected_and_evaluated(
    py123d_data: DataConfig, tiny_config: RunConfig, tmp_path: Path
) -> None:
    config = configured(tmp_path, py123d_data, tiny_config)
    run = Store(config.run_dir)
    prepare(run, config)
    facts = run.manifest(layout.CLIPS)
    assert [facts[f"{role}_{what}"] for role in ("pool", "val") for what in ("clips", "frames")] == [5, 30, 1, 8]
    clips = list(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA))
    left = ArrowLog(Store(py123d_data.root), "logs/nuplan_train/left")
    assert [row for row in clips if row["log_token"] == "left"] == [
        clip.to_row() for clip in LogClips(left, py123d_data).clips("pool")
    ]
    labels = list(run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA))
    assert [row["frame_token"] for row in labels] == [frame["token"] for row in clips for frame in row["frames"]]

    torch.manual_seed(0)  # what a training would leave; it reads the same files as for nuScenes
    model = build_model(SMALL_VAD)
    save_model(run, layout.model(0), model, {"image": config.image.model_dump()})
    pool = read_pool(run, config)
    buy(run, config, 0, pool)
    bought = {item.clip_token for item in read_selection(run, 0)}
    score_pool(run, config, 1, layout.model(0), exclude=bought)
    scores = read_scores(run, 1)
    assert scores.keys() == {row["clip_token"] for row in clips if row["split"] == "pool"} - bought
    assert all(score.status == "ok" and score.shift_sum > 0 for score in scores.values())
    buy(run, config, 1, pool)
    assert len(bought) == len(read_selection(run, 1)) == 2
    evaluate_model(run, config, 0)
    assert run.read_json(f"{layout.evaluation(0)}/evaluation.json")["planner"]["n_frames"] == 2


def test_without_labels_the_pool_is_prepared_for_annotators(
    py123d_copy: Path, tiny_config: RunConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in py123d_copy.rglob("box_detections_se3.arrow"):
        path.unlink()
    (py123d_copy / "maps/nuplan/nuplan_us-nv-las-vegas-strip.arrow").unlink()
    options = ["--data.format", "py123d", "--data.root", str(py123d_copy), "--run_dir", str(tmp_path / "run")]

    def printed(*more: str) -> str:
        run_job("", job, plan, [*options, *more], schema=PrepareJobConfig)
        return capfd.readouterr().out

    with pytest.raises(SystemExit) as ended:
        run_job("", job, plan, options, schema=PrepareJobConfig)
    assert ended.value.code == 2
    assert "box_detections_se3.arrow does not exist: with labels.mode=wait" in capfd.readouterr().err
    waiting = ("--data.val_split", "null", "--labels.mode", "wait", "--run_dir", str(tmp_path / "waiting"))
    assert "Pool: 3 clips, 31 frames; val: 0 clips (from the logs)" in printed(*waiting, "--dry-run")
    assert "3 pool clips (31 frames), 0 val clips" in printed(*waiting)
    run = Store(str(tmp_path / "waiting"))
    assert (run.manifest(layout.LABELS)["n_scenes"], list(run.iter_rows(layout.LABELS_FILE, LABEL_SCHEMA))) == (0, [])


def test_one_worker_and_verification_give_the_same_bytes(
    py123d_copy: Path, tiny_config: RunConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (py123d_copy / "maps/nuplan/nuplan_us-nv-las-vegas-strip.arrow").unlink()
    data = DataConfig(root=str(py123d_copy), format="py123d")
    runs = []
    for name, workers, verify in (("two", 2, False), ("one", 1, True)):
        config = configured(tmp_path, data, tiny_config, name)
        config = config.model_copy(update={"prepare": config.prepare.model_copy(update={"max_workers": workers})})
        runs.append(Store(config.run_dir))
        prepare(runs[-1], config, verify)
        assert "4 of 4 log(s) have no map" in capfd.readouterr().err
    for file in (layout.CLIPS_FILE, layout.LABELS_FILE):
        assert runs[0].read_bytes(file) == runs[1].read_bytes(file)
    report = runs[1].read_json(layout.VERIFICATION)
    assert (report["n_clips"], report["n_images"], report["n_broken"]) == (4, (9 + 10 + 12 + 9) * 6, 0)
