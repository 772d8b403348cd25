"""What a user can get wrong: one sentence on stderr that names the culprit, exit code 2, nothing published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import prepare_clips, run_rounds
from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.stages.plan import describe_plan

VERSION = "v1.0-trainval"
Spoil = Callable[[Path], str]


pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def folder(tiny_world: str, tmp_path: Path) -> Path:
    """A copy of the tiny world by hard links: remove and write anew, never write in place."""
    target = tmp_path / "nuscenes"
    shutil.copytree(tiny_world, target, copy_function=lambda src, dst: Path(dst).hardlink_to(src))
    return target


def _missing_table(root: Path) -> str:
    (root / VERSION / "ego_pose.json").unlink()
    return "ego_pose.json"


def _missing_annotation_table(root: Path) -> str:
    (root / VERSION / "sample_annotation.json").unlink()
    return "sample_annotation.json"


def _missing_image(root: Path) -> str:
    image = sorted((root / "samples" / "CAM_BACK").iterdir())[0]
    image.unlink()
    return image.name


def _missing_can_file(root: Path) -> str:
    file = sorted((root / "can_bus").glob("*_pose.json"))[0]
    file.unlink()
    return file.name


def _missing_can_folder(root: Path) -> str:
    shutil.rmtree(root / "can_bus")
    return "can_bus"


def _missing_map(root: Path) -> str:
    log = json.loads((root / VERSION / "log.json").read_text())[0]
    file = root / "maps" / "expansion" / f"{log['location']}.json"
    file.unlink()
    return file.name


def _empty_split(root: Path) -> str:
    splits = json.loads((root / "splits.json").read_text())
    (root / "splits.json").unlink()
    (root / "splits.json").write_text(json.dumps({**splits, "val": []}))
    return "val"


def _broken_table(root: Path) -> str:
    table = root / VERSION / "sample.json"
    text = table.read_text()
    table.unlink()
    table.write_text(text[: len(text) // 2])
    return "sample.json"


SPOILS = [
    _missing_table,
    _missing_annotation_table,
    _missing_image,
    _missing_can_file,
    _missing_can_folder,
    _missing_map,
    _empty_split,
    _broken_table,
]


def _sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of stderr; the lines before it may only be progress."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith(("prepare ", "round ")) for line in lines[:-1]), lines
    assert "Traceback" not in lines[-1]
    return lines[-1]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__.lstrip("_"))
def test_spoilt_folder(spoil: Spoil, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    culprit = spoil(folder)
    arguments = ["--data.root", str(folder), "--run_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        run_job("", prepare_clips.job, describe_plan, arguments)
    assert ended.value.code == 2
    assert culprit in _sentence(capsys)
    assert not (tmp_path / "run" / "labels" / "manifest.json").exists()


def test_a_budget_larger_than_the_pool(tiny_run: object, tiny_config: RunConfig, tmp_path: Path) -> None:
    """Nine clips cannot make ten rounds of at least one clip each."""
    shares = json.dumps([round(0.01 * number, 2) for number in range(1, 11)])
    arguments = ["--data.root", tiny_config.data.root, "--run_dir", str(tmp_path / "run"), "--select.rounds", shares]
    with pytest.raises(SystemExit) as ended:
        run_job("", run_rounds.job, describe_plan, [*arguments, "--dry-run"])
    assert ended.value.code == 2


def test_a_dry_run_costs_nothing(tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    arguments = [
        "--data.root",
        tiny_config.data.root,
        "--run_dir",
        str(run_dir),
        "--model.preset",
        "vad_nano",
        "--dry-run",
    ]
    run_job("", run_rounds.job, describe_plan, arguments)
    plan = capsys.readouterr().out
    assert "9 clips, 72 frames" in plan
    assert len(plan.strip().splitlines()) == 6  # two lines of facts, a header, three rounds
    assert not run_dir.exists()
