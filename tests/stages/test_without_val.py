"""A folder without a val split: everything runs, nothing is evaluated, and that is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli import run_job
from jobs.evaluate_model import EvaluateModelConfig, plan
from jobs.evaluate_model import job as evaluation_job
from sead_ray.config import RunConfig, SelectConfig
from sead_ray.errors import InputError
from sead_ray.report.rounds import format_table, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.plan import describe_plan
from sead_ray.stages.rounds import run_rounds


def test_rounds_run_and_say_that_nothing_is_evaluated(
    loop_config: RunConfig, ray_cluster: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = loop_config.model_copy(
        update={
            "run_dir": str(tmp_path / "run"),
            "data": loop_config.data.model_copy(update={"val_split": None}),
            "train": loop_config.train.model_copy(update={"max_steps": 1}),
            "select": SelectConfig(rounds=[0.25]),
        }
    )
    assert "val: 0 clips" in describe_plan(config)
    run = run_rounds(config)
    assert "evaluate round 0: no val split was prepared, nothing is evaluated" in capfd.readouterr().err
    assert run.manifest(layout.CLIPS)["val_clips"] == 0
    report = run.read_json(f"{layout.evaluation(0)}/evaluation.json")
    assert (report["planner"]["n_frames"], report["planner"]["l2_m"]["avg"]) == (0, None)
    assert "–" in format_table(rounds_table(run)).splitlines()[-1]
    assert run.exists(layout.REPORT)
    (tmp_path / "config.yaml").write_text(config.model_dump_json())  # JSON is YAML
    with pytest.raises(SystemExit) as ended:
        run_job("", evaluation_job, plan, ["--config", str(tmp_path / "config.yaml")], schema=EvaluateModelConfig)
    assert ended.value.code == 2
    assert "was prepared without a val split: there is nothing to evaluate on." in capfd.readouterr().err


def test_a_split_that_holds_no_scene_is_one_sentence(tiny_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    for val_split, sentence in (
        (
            "mini_val",
            r"Split 'mini_val' has no scene in .*v1\.0-trainval \(without a val split .*data\.val_split=null\)",
        ),
        (str(tmp_path / "none.txt"), r"none\.txt' has no scene in"),
    ):
        data = tiny_config.data.model_copy(update={"val_split": val_split})
        with pytest.raises(InputError, match=sentence):
            describe_plan(tiny_config.model_copy(update={"data": data, "run_dir": str(tmp_path / "run")}))
