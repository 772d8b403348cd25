from __future__ import annotations

from pathlib import Path

import pytest

from sead_ray.config import ModelConfig, RunConfig, SelectConfig
from sead_ray.stages.rounds import run_rounds
from sead_ray.storage import Store

# Small enough for seconds on two cores; every part of VAD is still there.
SMALL_VAD = ModelConfig(
    preset="vad_nano",
    overrides={
        "embed_dims": 32,
        "ffn_dims": 64,
        "backbone_channels": 16,
        "bev_h": 20,
        "bev_w": 10,
        "encoder_layers": 1,
        "agent_queries": 20,
        "map_instances": 10,
    },
)


@pytest.fixture(scope="session")
def loop_config(tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Two rounds on the tiny world. An untrained model finds no key frame, so such clips are bought whole."""
    return tiny_config.model_copy(
        update={
            "run_dir": str(tmp_path_factory.mktemp("runs") / "loop"),
            "model": SMALL_VAD,
            "train": tiny_config.train.model_copy(update={"epochs": 2}),
            "select": SelectConfig(rounds=[0.25, 0.5], without_key_frame="keep_clip"),
        }
    )


@pytest.fixture(scope="session")
def loop_run(loop_config: RunConfig, ray_cluster: None) -> Store:
    """A whole run: both rounds, every stage."""
    return run_rounds(loop_config)


def published_bytes(run: Store, *keys: str) -> dict[str, bytes]:
    return {key: Path(run.path(key)).read_bytes() for key in keys}
