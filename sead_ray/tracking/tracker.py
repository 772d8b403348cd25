"""What a tracker does, and what it is told of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sead_ray.config import TrackConfig
from sead_ray.errors import InputError
from sead_ray.storage import Store


@dataclass(frozen=True)
class Checkpoint:
    """A round's model. `location`: its folder; `files`: SHA-256 by name."""

    location: str
    version: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class RoundRecord:
    """Everything of one round, told once it is published.

    Attributes:
        steps: (optimiser step, values by name) of the training.
        metrics: of the round itself: bought, evaluated, seconds.
    """

    number: int
    checkpoint: Checkpoint
    steps: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)


class Tracker(Protocol):
    """Being told of the same round again must do no harm: a driver may have died between telling and noting it."""

    name: str

    def params(self, values: Mapping[str, Any]) -> None:
        """The run's settings by dotted key."""

    def live(self, number: int, step: int, values: Mapping[str, float]) -> None:
        """An optimiser step of round `number`'s training, while it goes on; not every step is told."""

    def round(self, record: RoundRecord) -> None:
        """One round that is published."""

    def close(self) -> None:
        """Whatever is still on its way is there after this."""


def open_trackers(run: Store, config: TrackConfig) -> list[Tracker]:
    """Those that `track.to` names, in its order.

    Raises:
        InputError: one is not installed, or has no place to write to.
    """
    from sead_ray.tracking.json_lines import JsonLines

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
