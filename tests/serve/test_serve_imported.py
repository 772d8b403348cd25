"""An imported checkpoint is served as it is, and its card says how images must reach it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from sead_ray.config import ImageConfig, ScoreConfig, ServeConfig
from sead_ray.errors import InputError
from sead_ray.model.checkpoint import import_checkpoint, read_upstream
from sead_ray.model.presets import sized
from sead_ray.model.vad import VAD
from sead_ray.model.weights import upstream_names
from sead_ray.records import Clip
from sead_ray.stages.adopt import adopt_model
from sead_ray.stages.clip_runner import load_clip
from sead_ray.storage import Store
from serve.scorer import LocalScorer, find_model

OVERRIDES = {"embed_dims": 32, "ffn_dims": 64, "heads": 4, "bev_h": 20, "bev_w": 10, "backbone_channels": 8}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(0)
    own = VAD(sized("vad_tiny", OVERRIDES), pretrained_backbone=True).state_dict()
    torch.save({name: own[key] for key, name in upstream_names(own).items()}, folder / "up.pth")
    found = read_upstream(str(folder / "up.pth"), None, OVERRIDES)
    import_checkpoint(found, str(folder / "model"), ImageConfig(width=160), ScoreConfig())
    return folder / "model"


def test_it_is_served(imported: Path, clip: Clip, data_root: str) -> None:
    model_dir = find_model(ServeConfig(model_dir=str(imported)))
    scorer = LocalScorer(model_dir, "cpu")
    info = asyncio.run(scorer.info())
    assert (info.preset, info.round, info.image.width, info.image.decode) == ("vad_tiny", None, 160, "full")
    scored = asyncio.run(scorer.score(load_clip(clip, data_root, info.image)))
    assert scored.score.status == "ok"
    assert scored.score.model_version == info.model_version
    assert len(scored.score.shift_agents) == len(clip.frames) - 1


def test_a_run_takes_it_over_only_with_its_images(imported: Path, tmp_path: Path) -> None:
    run = Store(str(tmp_path))
    with pytest.raises(InputError, match=r"made for image\.decode full, but the run has dct"):
        adopt_model(run, str(imported), "adopted", ImageConfig(width=160, decode="dct"))
    with pytest.raises(InputError, match=r"set --image\.width 160"):
        adopt_model(run, str(imported), "adopted", ImageConfig())
    with pytest.raises(InputError, match=r"model\.json does not exist"):
        adopt_model(run, str(tmp_path / "none"), "adopted", ImageConfig())
    assert list(tmp_path.iterdir()) == []
    adopt_model(run, str(imported), "adopted", ImageConfig(width=160))
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "adopted" / name).read_bytes() == (imported / name).read_bytes()
