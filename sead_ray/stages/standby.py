"""A training whose workers get ready before anybody knows on what: they start, build the model and record it while the
clips are still being scored."""

from __future__ import annotations

from typing import Any

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.beside import Beside
from sead_ray.stages.ray_training import RayTraining
from sead_ray.storage import Store

ENDS_WITHIN_S = 60.0


class Standby:
    """Begins at once, in a thread of its own; `go_on_with` or `end` must follow."""

    def __init__(self, run: Store, config: RunConfig, number: int) -> None:
        self._run, self._key = run, layout.train_work(number)
        run.remove(self._key)  # of a driver before
        self._training = RayTraining(run, config, number, None)
        self._fit = Beside(self._training.fit, f"standby-{number}")

    @property
    def asked(self) -> str:
        return self._training.asked

    def go_on_with(self, work: dict[str, Any]) -> Any:
        """Ray Train's result; raises what it raises. An interruption ends the training."""
        self._run.write_json(self._key, work)
        try:
            return self._fit.result()
        except KeyboardInterrupt:
            self.end()
            raise

    def end(self) -> None:
        """Nothing of it is left afterwards; one that has ended by itself stays as it is."""
        self._training.end()
        self._fit.join(ENDS_WITHIN_S)
        self._run.remove(self._key)
