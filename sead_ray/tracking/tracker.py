"""What a tracker does, and what it is told of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


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
