from __future__ import annotations

from pathlib import Path

import pytest

from jobs import write_report
from jobs.cli import run_job
from sead_ray.storage import Store
from tests.made_up_runs import run_maker


def command(run: Store, data_root: str, *more: str) -> None:
    argv = ["--run_dir", run.root, "--data.root", data_root, *more]
    run_job("", write_report.job, write_report.plan, argv, schema=write_report.WriteReportConfig, prog="job")


def test_runs_with_other_seeds_are_shown_as_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (run, data), (other, _) = (run_maker(tmp_path, name)(2) for name in ("run", "other"))
    command(run, data, "--seed_runs", f'["{other.root}"]')
    path = capsys.readouterr().out.removeprefix("Report: ").strip()
    assert "mean of 2 seeds" in Path(path).read_text()
    command(run, data)
    assert "mean of" not in Path(path).read_text()


def test_a_seed_run_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run, data = run_maker(tmp_path)(1)
    with pytest.raises(SystemExit) as ended:
        command(run, data, "--seed_runs", f'["{tmp_path}/nothing"]')
    assert ended.value.code == 2
    assert "nothing holds no prepared clips" in capsys.readouterr().err
