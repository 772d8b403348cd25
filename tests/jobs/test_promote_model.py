"""`jobs.promote_model`: calibration by this very model, promotion, one command back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.promote_model import PromoteConfig, job, plan
from sead_ray.config import RunConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.vad import build_model
from sead_ray.model.weights import load_model, save_model
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store

SMALL = {"bev_h": 10, "bev_w": 5, "agent_queries": 10, "map_instances": 5, "embed_dims": 32, "ffn_dims": 32}


@pytest.fixture(scope="module")
def config(tiny_run: Store, tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> PromoteConfig:
    """A prepared run with two rounds' models, whose scores have a setting that is not the default."""
    run = Store(str(tmp_path_factory.mktemp("promote") / "run"))
    run.write_bytes(layout.CLIPS_FILE, tiny_run.read_bytes(layout.CLIPS_FILE))
    run.publish(layout.CLIPS, {})
    torch.manual_seed(1)
    for number in (0, 1):
        model = build_model(tiny_config.model.model_copy(update={"overrides": SMALL}))
        score = tiny_config.score.model_copy(update={"reduce_to": 1})
        info = {"round": number, "image": tiny_config.image.model_dump(), "score": score.model_dump()}
        save_model(run, layout.model(number), model, info)
        run.publish(layout.model(number), {})
    return PromoteConfig(**{**tiny_config.model_dump(), "run_dir": run.root, "calibration_clips": 2})


def test_promote_and_roll_back(config: PromoteConfig):
    run = Store(config.run_dir)
    registry = Registry(run)
    assert "Would promote round 1" in plan(config)
    first = config.model_copy(update={"round": 0, "calibration_clips": 0})  # a calibration costs a start of Ray Data
    assert job(first).startswith("Promoted ")
    job(config)
    current = registry.current()
    assert current is not None
    assert current.round == 1
    calibrations = [registry.calibration(line.model_version) for line in registry.history()]
    tokens = run.read_json(layout.CALIBRATION_SET)
    assert tokens["split"] == "val"
    assert len(tokens["clips"]) == 2
    assert calibrations[0] is None
    assert calibrations[1] is not None
    assert len(calibrations[1].sums) == 2

    back = config.model_copy(update={"roll_back": True})
    assert "Would bring back" in plan(back)
    assert layout.model(0) in job(back)
    with pytest.raises(InputError, match="no earlier model"):
        plan(back)


def test_calibration_is_by_the_models_own_settings(config: PromoteConfig):
    """Of round 1, whose calibration the test before made."""
    run = Store(config.run_dir)
    promoted = Registry(run).history()[1]
    tokens = run.read_json(layout.CALIBRATION_SET)["clips"]
    clips = [Clip.from_row(row) for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA) if row["clip_token"] in tokens]
    model, card = load_model(run, layout.model(1))
    settings = ScoreConfig(**card["info"]["score"])
    assert settings.reduce_to == 1
    loaded = [load_clip(clip, config.data.root, config.image) for clip in clips]
    expected = score_loaded_clips(model, promoted.model_version, loaded, "cpu", settings)
    calibration = Registry(run).calibration(promoted.model_version)
    assert calibration is not None
    assert sorted(calibration.sums) == pytest.approx(sorted(item.shift_sum for item in expected), rel=1e-5)


def test_without_clips_it_says_what_to_do(config: PromoteConfig, tmp_path: Path):
    run = Store(str(tmp_path / "run"))
    for name in ("weights.safetensors", "model.json"):
        source = Store(config.run_dir).read_bytes(f"{layout.model(0)}/{name}")
        run.write_bytes(f"{layout.model(0)}/{name}", source)
    run.publish(layout.model(0), {})
    there = config.model_copy(update={"run_dir": run.root})
    with pytest.raises(InputError, match="no prepared clips to calibrate with"):
        job(there)
    assert Registry(run).current() is None
    job(there.model_copy(update={"calibration_clips": 0}))
    assert Registry(run).current() is not None
