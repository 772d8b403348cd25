"""The lease on a run folder in a bucket, written again and again by compare-and-set for as long as its holder lives."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace

from sead_ray.errors import FencedError, InputError
from sead_ray.objects import ConflictError, Tag, read_object, write_object
from sead_ray.stages import layout
from sead_ray.stages.lease import Lease, lease_bytes, parse_lease, taken_over
from sead_ray.stages.progress import say
from sead_ray.storage import Store

PATIENCE = 6  # heartbeats after which a silent holder is taken for dead


class Heartbeat(threading.Thread):
    """Writes the lease again and again; where that fails for good, interrupts the thread that made it.

    Attributes:
        lost: why the folder is no longer this process's, in one sentence; empty while it is.
    """

    def __init__(self, run: Store, lease: Lease, tag: Tag) -> None:
        super().__init__(name="lease", daemon=True)
        self._run, self._lease, self._tag = run, lease, tag
        self._ended, self._turn = threading.Event(), threading.Lock()
        self._renewed = time.monotonic()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self.lost = ""

    def run(self) -> None:
        while not self._ended.wait(self._lease.heartbeat_s) and not self.lost:
            self._beat()
        if self.lost and self._interrupts and not self._ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)  # a real signal: it ends a sleep, too

    def check(self, certain: bool) -> None:
        """Raises `FencedError` where the folder is lost; `certain`: asks the bucket."""
        if certain and not self.lost:
            self._beat()
        if self.lost:
            raise FencedError(self.lost)

    def end(self) -> None:
        """No more heartbeats; the next driver need not wait."""
        self._ended.set()
        with self._turn:
            if self.lost:
                return
            try:
                write_object(self._uri, lease_bytes(replace(self._lease, released=True)), self._tag)
            except (ConflictError, InputError) as error:
                say(f"{self._run.root}: the lease could not be given back ({error})", "warning")

    @property
    def _uri(self) -> str:
        return self._run.path(layout.LOCK)

    def _beat(self) -> None:
        with self._turn:
            if self.lost or self._ended.is_set():
                return
            asked = time.monotonic()
            following = replace(self._lease, beats=self._lease.beats + 1)
            try:
                self._tag = write_object(self._uri, lease_bytes(following), self._tag)
                self._lease, self._renewed = following, asked
            except ConflictError:
                self._after_conflict(following, asked)
            except InputError as error:
                self._after_silence(asked, str(error))

    def _after_conflict(self, following: Lease, asked: float) -> None:
        """Lost, or written by us in a request whose answer did not arrive."""
        try:
            found = read_object(self._uri)
        except InputError as error:
            self._after_silence(asked, str(error))
            return
        holder = parse_lease(found[0]) if found else None
        if found and holder and holder.lease == self._lease.lease:
            self._lease, self._tag, self._renewed = following, found[1], asked
        else:
            self.lost = taken_over(self._run, holder)

    def _after_silence(self, asked: float, error: str) -> None:
        """A beat less than others wait for: what they may take over is given up before."""
        silent_s = time.monotonic() - self._renewed
        if silent_s > self._lease.heartbeat_s * (PATIENCE - 1):
            self.lost = (
                f"The lease of {self._run.root} could not be renewed for {silent_s:.0f} s, and another driver may take "
                f"it over ({error.rstrip('.')}): start the same command again to go on."
            )
