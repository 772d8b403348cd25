"""A training whose workers get ready before anybody knows on what: they start, build the model and record it while the
clips are still being scored."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

from sead_ray.config import RunConfig
from sead_ray.stages import layout
from sead_ray.stages.ray_training import RayTraining
from sead_ray.storage import Store

ENDS_WITHIN_S = 60.0


class Standby:
    """Begins at once, in a thread of its own; `go_on_with` or `end` must follow."""

    def __init__(self, run: Store, config: RunConfig, number: int) -> None:
        self._run, self._key = run, layout.train_work(number)
        run.remove(self._key)  # of a driver before
        self._training = RayTraining(run, config, number, None)
        self._result: Any = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=lambda: context.run(self._fit), name=f"standby-{number}", daemon=True)
        self._thread.start()

    @property
    def asked(self) -> str:
        return self._training.asked

    def go_on_with(self, work: dict[str, Any]) -> Any:
        """Ray Train's result; raises what it raises. An interruption ends the training."""
        self._run.write_json(self._key, work)
        try:
            self._thread.join()
        except BaseException:
            self.end()
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def end(self) -> None:
        """Nothing of it is left afterwards; one that has ended by itself stays as it is."""
        self._training.end()
        self._thread.join(ENDS_WITHIN_S)
        self._run.remove(self._key)

    def _fit(self) -> None:
        try:
            self._result = self._training.fit()
        except BaseException as error:  # told where the result is asked for
            self._error = error
