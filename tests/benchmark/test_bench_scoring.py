"""The benchmark of scoring: its arithmetic, and a whole run on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.bench_scoring import BenchScoringConfig, job
from sead_ray.benchmark.gpu_sampler import GpuSampler
from sead_ray.benchmark.scoring import ceiling, window_rates
from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.storage import Store
from tests.stages.conftest import SMALL_VAD


def test_rates_after_the_warm_up() -> None:
    finished = [(5.0 if clip < 2 else 10.0 + clip, 40) for clip in range(12)]  # 12, 13, ... 21 s
    rates = window_rates(finished, warm_up=2)
    assert rates["start_s"] == 5.0
    assert rates["stop_s"] == 21.0
    assert rates["fps_whole"] == pytest.approx(400 / 16)
    assert rates["fps_windows"] == pytest.approx([80 / 8, 40, 40, 40, 40])
    assert rates["fps"] == pytest.approx(40)


def test_batches_that_finish_together_are_not_torn_apart() -> None:
    finished = [(float(batch), 40) for batch in range(4) for _ in range(8)]
    rates = window_rates(finished, warm_up=8)
    assert rates["fps_windows"] == pytest.approx([320] * 3)


def test_too_few_clips_to_time_are_said() -> None:
    with pytest.raises(InputError, match="All 4 clips were scored by the end of the warm-up"):
        window_rates([(5.0, 8)] * 4, warm_up=16)


def test_the_ceiling_is_the_lower_limit() -> None:
    result = {"decode_fps": 500.0, "model_fps": 150.0, "n_actors": 2, "backbone_fps": 600.0, "fps": 240.0}
    assert ceiling(result) == {"ceiling_fps": 300.0, "ratio": 0.8, "backbone_fps": 600.0}
    assert ceiling({**result, "n_actors": 4})["ceiling_fps"] == 500.0


def test_utilisation_is_of_the_gpus_in_use() -> None:
    sampler = GpuSampler([(1.0, 0, 90, 2048), (2.0, 0, 70, 4096), (2.0, 1, 0, 512), (9.0, 0, 0, 99999)])
    assert sampler.summary(0.5, 3) == {"utilisation_percent": 80, "memory_gib": 4}
    assert sampler.summary(10, 11) == {}


@pytest.mark.usefixtures("ray_cluster")
def test_a_whole_run_on_a_cpu(tmp_path: Path) -> None:
    config = BenchScoringConfig(
        root=str(tmp_path / "world"),
        run_dir=str(tmp_path / "run"),
        clips=6,
        frames=12,
        scenes=4,
        scene_frames=8,
        image_width=160,
        image_height=90,
        image=ImageConfig(width=160),
        model=SMALL_VAD,
        score=ScoreConfig(no_progress_timeout_s=240),
        repeats=1,
        output=str(tmp_path / "figures.json"),
    )
    printed = job(config)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["n_frames"] == 6 * 12
    assert figures["n_failed"] == 0
    assert min(figures[key] for key in ("fps", "fps_cold", "decode_fps", "model_fps", "backbone_fps")) > 0
    assert figures["model_fps"] < figures["backbone_fps"]
    assert figures["ratio"] == pytest.approx(figures["fps"] / min(figures["decode_fps"], figures["model_fps"]))
    assert figures["ms_per_frame"]["model (device)"] > figures["ms_per_frame"]["wait for input (device)"]
    assert f"{figures['fps']:.1f}" in printed
    rows = list(Store(config.run_dir).iter_rows("scores.parquet", SCORE_SCHEMA))
    assert [(row["status"], row["n_frames"]) for row in rows] == [("ok", 12)] * 6
    assert len({row["clip_token"] for row in rows}) == 6
