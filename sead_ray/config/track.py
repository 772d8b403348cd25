"""Settings of tracking."""

from __future__ import annotations

from typing import Literal

from sead_ray.config.schema import Schema


class TrackConfig(Schema):
    """Where settings, metrics and models of a run are told besides its folder; may change on a restart, and what was
    not told yet is told then."""

    to: list[Literal["jsonl", "tensorboard", "mlflow"]] = ["jsonl"]
    """jsonl: <run>/tracking/; tensorboard: event files; mlflow: a server (pip install 'sead-ray[mlflow]')."""
    tensorboard_dir: str | None = None
    """Default <run>/tensorboard; needed where the run folder is in a bucket."""
    mlflow_uri: str | None = None
    """http://…, or sqlite:///…; None: MLFLOW_TRACKING_URI."""
    experiment: str = "sead_ray"
    """MLflow's experiment; its run is found again by the run folder's path."""
    upload_models: bool = False
    """Copy weights to MLflow, too; else it learns where they lie, and their SHA-256."""
