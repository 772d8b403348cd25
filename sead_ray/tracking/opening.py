"""The trackers that a configuration names; the packages behind them are imported only then."""

from __future__ import annotations

from sead_ray.config import TrackConfig
from sead_ray.errors import InputError
from sead_ray.storage import Store
from sead_ray.tracking.json_lines import JsonLines
from sead_ray.tracking.tracker import Tracker


def open_trackers(run: Store, config: TrackConfig) -> list[Tracker]:
    """Those that `track.to` names, in its order.

    Raises:
        InputError: one is not installed, or has no place to write to.
    """
    found: list[Tracker] = []
    for name in dict.fromkeys(config.to):
        if name == "jsonl":
            found.append(JsonLines(run))
        elif name == "tensorboard":
            found.append(_tensorboard(run, config))
        else:
            found.append(_mlflow(run, config))
    return found


def _tensorboard(run: Store, config: TrackConfig) -> Tracker:
    try:
        from sead_ray.tracking.tensorboard import TensorBoard
    except ImportError:
        raise InputError("track.to names tensorboard, which is not installed: pip install tensorboardX.") from None
    if not config.tensorboard_dir and not run.is_local:
        raise InputError(f"TensorBoard's files cannot be appended to in {run.root}: set track.tensorboard_dir.")
    return TensorBoard(config.tensorboard_dir or run.path("tensorboard"))


def _mlflow(run: Store, config: TrackConfig) -> Tracker:
    try:
        from sead_ray.tracking.mlflow import MLflow
    except ImportError:
        raise InputError("track.to names mlflow, which is not installed: pip install 'sead-ray[mlflow]'.") from None
    return MLflow(run, config)
