"""`jobs.bench_model`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.bench_model import BenchModelConfig, job, plan
from jobs.cli import run_job
from sead_ray.benchmark.timing import median_ratio
from sead_ray.config import ModelConfig
from sead_ray.errors import InputError

SMALL = ModelConfig(
    preset="vad_nano",
    overrides={"embed_dims": 32, "backbone_channels": 8, "bev_h": 20, "bev_w": 10, "agent_queries": 12},
)


def config(**changes: object) -> BenchModelConfig:
    return BenchModelConfig(model=SMALL, height=64, width=96, repeats=2, threads=1, device="cpu", **changes)


def test_one_run_shows_every_figure(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    text = job(config(output=str(output), queue_length=2, batch=2))
    result = json.loads(output.read_text())
    assert set(result["seconds"]) == {"backbone_and_neck", "folded_backbone_and_neck", "forward", "training_step"}
    assert set(result["ratios"]) == set(result["ratios_to_folded"]) == {"forward", "training_step"}
    assert set(result["peak_memory_gib"]) == {"inference", "training"}
    assert {"backbone", "neck", "encoder", "agents", "maps", "motion", "planner", "decode"} == set(result["parts"])
    assert {"history", "forward", "matching_and_losses", "backward", "optimizer"} == set(result["training_parts"])
    assert all(len(values) == 2 for values in result["samples"].values())
    for name, seconds in result["seconds"].items():
        assert seconds > 0
        assert result["seconds_per_frame"][name] == pytest.approx(seconds / 2)
    assert result["machine"]["threads"] == 1
    for words in ("backbone and neck", "training step", "peak memory", "matching and losses"):
        assert words in text
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


def test_without_training() -> None:
    text = job(config(train=False))
    assert "training step" not in text
    assert "forward" in text


def test_the_plan_measures_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def never(_: BenchModelConfig) -> str:
        raise AssertionError("it measured")

    argv = ["--dry-run", "--output", str(tmp_path / "x.json"), "--device", "cpu"]
    run_job("Bench.", never, plan, argv=argv, schema=BenchModelConfig)
    assert "vad_tiny on cpu" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "named"),
    [(["--height", "100"], "height"), (["--repeats", "0"], "repeats"), (["--device", "tpu"], "device")],
    ids=" ".join,
)
def test_wrong_settings_are_one_sentence(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_job("Bench.", job, plan, argv=argv, schema=BenchModelConfig)
    assert exit_.value.code == 2
    assert named in capsys.readouterr().err


def test_a_missing_folder_is_named_before_measuring(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        job(config(output=str(tmp_path / "nowhere" / "bench.json")))


def test_ratios_are_of_neighbours_in_time() -> None:
    assert median_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0
