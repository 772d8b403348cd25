"""The driver's eye on a training: shows its progress, and interrupts one that stands still."""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sead_ray.stages import layout, metrics
from sead_ray.stages.diagnosis import stuck
from sead_ray.stages.interrupt import heard
from sead_ray.stages.progress import Progress
from sead_ray.stages.track import tell_live
from sead_ray.storage import Store

LOOK_EVERY_S = 1.0


@contextmanager
def watched(run: Store, number: int, steps: int, timeout_s: float, asked: str) -> Generator[None, None, None]:
    """Shows what rank 0 writes down of its progress while the training of round `number` runs in this thread.

    Raises:
        InputError: rank 0 wrote nothing for `timeout_s`; says what was `asked` of the cluster, and what it has.
    """
    watch = _Watch(run, number, steps, timeout_s)
    watch.start()
    try:
        with heard():
            yield
    except KeyboardInterrupt:
        if watch.is_stuck:
            raise stuck(f"Training round {number} ended no step", timeout_s, asked) from None
        raise
    finally:
        watch.ended.set()
        watch.join()


class _Watch(threading.Thread):
    def __init__(self, run: Store, number: int, steps: int, timeout_s: float) -> None:
        context = contextvars.copy_context()
        super().__init__(target=lambda: context.run(self._follow), name="training", daemon=True)
        self._run, self._number, self._steps, self._timeout_s = run, number, steps, timeout_s
        self._interrupts = threading.current_thread() is threading.main_thread()
        self.ended = threading.Event()
        self.is_stuck = False

    def _follow(self) -> None:
        key, seen, moved = layout.train_progress(self._number), "", time.monotonic()
        with Progress(f"train round {self._number}", self._steps, "step") as progress:
            while not (last := self.ended.wait(LOOK_EVERY_S)) or self._run.exists(key):
                stamp = self._run.stamps([key])[key]
                if stamp != seen and self._run.exists(key):
                    seen, moved = stamp, time.monotonic()
                    self._show(progress, self._run.read_json(key))
                if last:
                    return
                if self._interrupts and time.monotonic() - moved > self._timeout_s:
                    self.is_stuck = True
                    os.kill(os.getpid(), signal.SIGINT)  # a real signal: it ends a sleep, too
                    return

    def _show(self, progress: Progress, state: dict[str, Any]) -> None:
        progress.advance(state["step"] - progress.done, f"loss {state['loss']:.3f}")
        metrics.show("sead_train_steps", state["step"], run=self._run.root, round=self._number)
        metrics.show("sead_train_loss", state["loss"], run=self._run.root, round=self._number)
        tell_live(self._number, state["step"], {"train/loss": state["loss"]})
