"""Which model the scoring service serves: the promotions of a run, in `serving/` of its folder. No Ray in here.

`promotions.json` is replaced whole, so that a reader sees the state before a promotion or after it. Nothing is ever
taken out of it: a roll-back is a line of its own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sead_ray.errors import InputError
from sead_ray.model.weights import CARD, read_card
from sead_ray.records import ClipScore
from sead_ray.schemas import SCORE_SCHEMA
from sead_ray.scoring.calibration import Calibration
from sead_ray.stages import layout
from sead_ray.stages.lock import driver_lock
from sead_ray.storage import Store

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Promotion:
    """One line of the registry.

    Attributes:
        action: start: what a service began with, before anything was promoted; roll_back: the model before came back.
        key: the model's folder below the run folder. round: that trained it; None: from elsewhere.
        at: time in UTC.
    """

    number: int
    action: Literal["start", "promote", "roll_back"]
    key: str
    model_version: str
    round: int | None
    at: str


class Registry:
    """The promotions of one run."""

    def __init__(self, run: Store) -> None:
        self.run = run

    def history(self) -> list[Promotion]:
        """All lines, oldest first; `InputError` where the file is none of ours."""
        if not self.run.exists(layout.PROMOTIONS):
            return []
        content = self.run.read_json(layout.PROMOTIONS)
        try:
            if content["format_version"] > FORMAT_VERSION:
                raise InputError(f"{self.run.path(layout.PROMOTIONS)} is of a newer release: upgrade sead_ray.")
            return [Promotion(**line) for line in content["promotions"]]
        except (KeyError, TypeError):
            raise InputError(f"{self.run.path(layout.PROMOTIONS)} is not a registry of promotions.") from None

    def standing(self) -> list[Promotion]:
        """The models that were promoted and not rolled back, the one to serve last."""
        return _stack(self.history())

    def current(self) -> Promotion | None:
        """The model that is to be served."""
        stack = self.standing()
        return stack[-1] if stack else None

    def previous(self) -> Promotion | None:
        """The model that a roll-back would bring back."""
        stack = self.standing()
        return stack[-2] if len(stack) > 1 else None

    def promote(self, key: str, action: Literal["start", "promote"] = "promote") -> Promotion:
        """Makes the model in the run's folder `key` the one to serve; the one that is already stays as it is."""
        card = read_card(self.run, f"{key}/{CARD}")
        with self._writing() as history:
            stack = _stack(history)
            if stack and stack[-1].model_version == card["model_version"]:
                return stack[-1]
            number = (card.get("info") or {}).get("round")
            return self._append(history, action, key, card["model_version"], number)

    def roll_back(self) -> Promotion:
        """Brings the model before back, as often as there is one.

        Raises:
            InputError: there is none.
        """
        with self._writing() as history:
            stack = _stack(history)
            if len(stack) < 2:
                raise InputError(f"{self.run.root} has no earlier model to go back to: promote another one instead.")
            before = stack[-2]
            return self._append(history, "roll_back", before.key, before.model_version, before.round)

    def calibration(self, model_version: str) -> Calibration | None:
        """The calibration set's scores by this model; None until it has scored them."""
        key = layout.calibration(model_version)
        if not self.run.exists(key):
            return None
        names = [name for name in SCORE_SCHEMA.names if name != "schema_version"]
        rows = self.run.iter_rows(key, SCORE_SCHEMA, columns=names)
        return Calibration.of(model_version, (ClipScore(**row) for row in rows))

    def stamp(self, model_version: str) -> tuple[str, ...]:
        """Changes whenever `current` or the calibration of `model_version` may have changed; cheap to ask for."""
        keys = [layout.PROMOTIONS, layout.calibration(model_version)]
        return tuple(self.run.stamps(keys).values())

    def _append(
        self, history: Sequence[Promotion], action: Any, key: str, model_version: str, number: int | None
    ) -> Promotion:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = Promotion(len(history) + 1, action, key, model_version, number, at)
        content = {"format_version": FORMAT_VERSION, "promotions": [asdict(item) for item in [*history, line]]}
        self.run.write_json(layout.PROMOTIONS, content)
        return line

    @contextmanager
    def _writing(self) -> Generator[list[Promotion], None, None]:
        """The history, while nobody else changes it."""
        with driver_lock(self.run.below(layout.SERVING)):  # a run under way is in nobody's way
            yield self.history()


def _stack(history: Sequence[Promotion]) -> list[Promotion]:
    stack: list[Promotion] = []
    for line in history:
        if line.action == "roll_back":
            stack.pop()
        else:
            stack.append(line)
    return stack
