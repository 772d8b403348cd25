"""Settings of one run, all sections together."""

from __future__ import annotations

from sead_ray.config.data import DataConfig, LabelConfig, PrepareConfig, WorldConfig
from sead_ray.config.model import ImageConfig, ModelConfig
from sead_ray.config.schema import Schema
from sead_ray.config.score import ScoreConfig
from sead_ray.config.select import SelectConfig
from sead_ray.config.track import TrackConfig
from sead_ray.config.train import EvaluateConfig, TrainConfig


class RunConfig(Schema):
    """One run: a pool, a budget, rounds."""

    run_dir: str = "runs/default"
    """Folder (or s3://, gs://) of everything that the run makes; the same one goes on where it was."""
    seed: int = 0
    """Of the strategies, the training and its data; each round draws from it and its number."""
    data: DataConfig = DataConfig()
    world: WorldConfig = WorldConfig()
    prepare: PrepareConfig = PrepareConfig()
    image: ImageConfig = ImageConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    labels: LabelConfig = LabelConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    track: TrackConfig = TrackConfig()
    overlap: bool = False
    """A round's model is evaluated while the next one trains; the next training's workers start, and build and record
    their model, while clips are scored. Where two trainings fit into the cluster beside the actors that score, all that
    follows on a training starts shortly before its end. For a cluster of one's own: each holds its part of it. On one
    GPU that is a third where `train.gpus_per_worker` and `score.gpus_per_actor` say nothing."""
    notice: str = ""
    """A sentence printed with the result, such as what a demo does not prove."""
