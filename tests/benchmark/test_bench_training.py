"""The benchmark of training: its arithmetic, and a whole run on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from jobs.bench_training import BenchTrainingConfig, job, plan
from sead_ray.benchmark.training import TrainingBenchConfig, markdown, peak_flops, random_batch, training_model
from sead_ray.config import ImageConfig, TrainConfig
from sead_ray.errors import InputError
from sead_ray.stages.bench_training import rates
from tests.stages.conftest import SMALL_VAD


def entry(step: int, time_s: float, waited_s: float = 0.0) -> dict[str, float]:
    return {"step": step, "time_s": time_s, "waited_s": waited_s, "memory_gib": 1.0 + step, "loss": 10.0 / step}


def test_rates_leave_the_first_quarter_out() -> None:
    history = [entry(10, 100.0), entry(20, 101.0, 5.0), entry(30, 102.0, 5.5), entry(40, 104.0, 5.5)]
    found = rates(history, global_batch=8)
    assert found["samples_per_s_windows"] == pytest.approx([80, 80, 40])
    assert found["samples_per_s"] == pytest.approx(80)
    assert found["ms_per_sample"] == pytest.approx(12.5)
    assert found["samples_per_s_whole"] == pytest.approx(240 / 4)
    assert found["waiting_for_data"] == pytest.approx(5.5 / 4)
    assert found["peak_memory_gib"] == 41
    assert found["losses"][20] == 0.5
    later = rates([*history, entry(80, 110.0), entry(90, 111.0)], global_batch=8)
    assert later["from_s"] == 102.0
    with pytest.raises(InputError, match="steps"):
        rates(history[:1], 8)


def test_the_peak_is_known_by_the_name_of_the_gpu() -> None:
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("CPU") is None


def test_the_plan_names_what_is_measured() -> None:
    text = plan(BenchTrainingConfig(batches=[3], workers=[1, 2], steps=7))
    assert "[3]" in text
    assert "7 steps with [1, 2] workers" in text


def test_inputs_are_of_the_size_that_images_have() -> None:
    config = TrainingBenchConfig()
    batch = random_batch(config, 1, torch.device("cpu"))
    assert batch.images.shape == (3, 1, 6, 384, 640, 3)
    assert batch.valid_height == 360
    assert training_model(config.model_copy(update={"model": SMALL_VAD})).size.norm == "BN"


@pytest.mark.usefixtures("ray_cluster")
def test_a_whole_run_on_a_cpu(tmp_path: Path) -> None:
    config = BenchTrainingConfig(
        root=str(tmp_path / "world"),
        run_dir=str(tmp_path / "run"),
        scenes=4,
        scene_frames=8,
        image_width=160,
        image_height=90,
        image=ImageConfig(width=160),
        model=SMALL_VAD,
        train=TrainConfig(queue_length=2),
        batches=[1],
        batch=12,
        steps=4,
        repeats=1,
        output=str(tmp_path / "figures.json"),
    )
    text = job(config)
    result = json.loads((tmp_path / "figures.json").read_text())
    assert markdown(result) == text
    (alone,), (through,) = result["steps_alone"], result["end_to_end"]
    assert result["gflops_per_sample"] > 0
    assert set(alone["ms_per_sample_by_part"]) == {"forward", "loss and matching", "backward", "optimiser"}
    assert sum(alone["ms_per_sample_by_part"].values()) == pytest.approx(alone["ms_per_sample"], rel=0.5)
    assert through["workers"] == 1
    assert through["batch"] == 12
    assert 0 < through["samples_per_s"] < 1000
    assert list(through["losses"].values())[-1] > 0
    # what was measured before something is refused is not lost
    with pytest.raises(InputError, match="fewer than 108 samples of a step: more scenes"):
        job(config.model_copy(update={"workers": [9], "output": str(tmp_path / "refused.json")}))
    (refused,) = json.loads((tmp_path / "refused.json").read_text())["steps_alone"]
    assert refused["batch"] == 1
