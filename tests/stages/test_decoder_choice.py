"""Where a pool's images are decoded."""

from __future__ import annotations

import dataclasses

import pytest

from sead_ray.config import ImageConfig, RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.stages import decoder_choice, layout
from sead_ray.stages.decoder_choice import choose_decoder, cpu_decode_fps
from sead_ray.stages.pipeline_size import PipelineSize, derived_size
from sead_ray.storage import Store

ON_CPU = derived_size(ScoreConfig(), None, None, None, {"CPU": 2.0}, 0.0)
ON_GPU = dataclasses.replace(ON_CPU, gpus_per_actor=1.0)


@pytest.fixture
def run(tiny_run: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The pool of the tiny run, in a folder of its own."""
    run = Store(str(tmp_path_factory.mktemp("choice")))
    run.write_bytes(layout.CLIPS_FILE, tiny_run.read_bytes(layout.CLIPS_FILE))
    return run


def measured(patch: pytest.MonkeyPatch, cpu: float, gpu: float) -> None:
    patch.setattr(decoder_choice, "cpu_decode_fps", lambda *_: cpu)
    patch.setattr(decoder_choice, "gpu_decode_fps", lambda *_: gpu)


def choose(run: Store, size: PipelineSize, n_clips: int = 10**6, **score: object) -> str:
    return choose_decoder(run, "", ImageConfig(width=160), ScoreConfig.model_validate(score), size, n_clips)


def test_without_a_gpu_nothing_is_measured(run: Store) -> None:
    assert choose(run, ON_CPU) == "cpu"
    assert not run.exists(layout.DECODER)
    with pytest.raises(InputError, match="decode_on is gpu"):
        choose(run, ON_CPU, decode_on="gpu")


@pytest.mark.parametrize(("cpu", "gpu", "expected"), [(300, 1300, "gpu"), (2500, 1300, "cpu"), (300, 0, "cpu")])
def test_the_faster_one_for_the_whole_run(
    run: Store, monkeypatch: pytest.MonkeyPatch, cpu: float, gpu: float, expected: str
) -> None:
    monkeypatch.setattr(decoder_choice, "_possible", lambda *_: True)
    measured(monkeypatch, cpu, gpu)
    assert choose(run, ON_GPU, n_clips=3) == "cpu"  # too few to measure
    assert choose(run, ON_GPU) == expected
    measured(monkeypatch, gpu, cpu)  # another machine, later
    assert choose(run, ON_GPU, n_clips=3) == expected
    assert choose(run, ON_GPU, decode_on="cpu") == "cpu"


def test_a_run_begun_on_gpus_goes_on_without(
    run: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(monkeypatch, 300, 1300)
    monkeypatch.setattr(decoder_choice, "_possible", lambda *_: True)
    choose(run, ON_GPU)
    assert choose(run, ON_CPU) == "cpu"
    assert "began to decode on GPUs" in "".join(capsys.readouterr())


@pytest.mark.usefixtures("ray_cluster")
def test_the_rate_of_the_cpus(run: Store, tiny_config: RunConfig) -> None:
    assert cpu_decode_fps(run, tiny_config.data.root, tiny_config.image, 1) > 1
