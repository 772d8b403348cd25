"""Every setting of the project, a module a section. Frozen pydantic schemas; reading them does nothing else.

A YAML under `jobs/configs/` states only what differs from these defaults.
"""

from sead_ray.config.board import BoardConfig
from sead_ray.config.data import DataConfig, LabelConfig, PrepareConfig, WorldConfig
from sead_ray.config.model import ImageConfig, ModelConfig
from sead_ray.config.run import RunConfig
from sead_ray.config.schema import Schema
from sead_ray.config.score import ScoreConfig
from sead_ray.config.select import SELECT_PRESETS, IncrementalStrategy, InitialStrategy, SelectConfig
from sead_ray.config.serve import IntakeConfig, ServeConfig
from sead_ray.config.track import TrackConfig
from sead_ray.config.train import EvaluateConfig, TrainConfig

__all__ = [
    "SELECT_PRESETS",
    "BoardConfig",
    "DataConfig",
    "EvaluateConfig",
    "ImageConfig",
    "IncrementalStrategy",
    "InitialStrategy",
    "IntakeConfig",
    "LabelConfig",
    "ModelConfig",
    "PrepareConfig",
    "RunConfig",
    "Schema",
    "ScoreConfig",
    "SelectConfig",
    "ServeConfig",
    "TrackConfig",
    "TrainConfig",
    "WorldConfig",
]
