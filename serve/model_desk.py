"""Follows the registry of a run: loads what is promoted, tries it, switches to it, while requests go on.

A switch is one assignment: a request has its model from then on or from before, and keeps it, since it carries the
model's version and folder to whichever replica computes it. A model that cannot be loaded or does not pass its trial
is never switched to; the present one goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from sead_ray.config import ServeConfig
from sead_ray.errors import InputError, RunBusyError
from sead_ray.stages import layout, serve_metrics
from sead_ray.stages.promote import newest_round
from sead_ray.stages.registry import Registry
from sead_ray.storage import Store
from sead_ray.wire import ModelInfo
from serve.errors import ApiError
from serve.models import Served, fixed, named
from serve.scorer import ModelRef, Scorer, find_model, ref_of

log = logging.getLogger("ray.serve.sead_ray")


class Host(Protocol):
    """Where models are held: this process, or replicas."""

    async def try_out(self, ref: ModelRef, beside: ModelRef | None) -> ModelInfo:
        """Loads, warms and tries the model, everywhere. Raises `InputError`; `ApiError` 503: nobody is there yet."""
        ...

    def bind(self, ref: ModelRef, info: ModelInfo) -> Scorer: ...


class ModelDesk:
    """The models of a service that follows a run, or stays with a folder's."""

    def __init__(self, host: Host, config: ServeConfig) -> None:
        self._host, self._config = host, config
        follows = config.run_dir is not None and config.follow != "off"
        self._registry = Registry(Store(config.run_dir)) if follows and config.run_dir else None
        self._current: Served | None = None
        self._ref: ModelRef | None = None
        self._others: list[Served] = []
        self._stamp: object = None
        self._refused: set[str] = set()  # versions that did not pass; not tried again until another is promoted
        self._why_not = "The model is not loaded yet."
        self._turn = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watch = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def all(self) -> Sequence[Served]:
        if self._current is None:
            raise ApiError(503, self._why_not)
        return [self._current, *self._others]

    async def pick(self, name: str | None) -> Served:
        return named(await self.all(), name)

    async def roll_back(self) -> Served:
        registry = self._followed()
        try:
            await asyncio.to_thread(registry.roll_back)
        except InputError as error:
            raise ApiError(409, "There is no earlier model to go back to.") from error
        except RunBusyError as error:
            raise ApiError(409, "Another promotion is under way.") from error
        return await self._switched()

    async def promote(self, number: int) -> Served:
        registry, key = self._followed(), layout.model(number)
        if not await asyncio.to_thread(registry.run.is_published, key):
            raise ApiError(404, f"Round {number} has no published model.", "round")
        try:
            await asyncio.to_thread(registry.promote, key)
        except (InputError, RunBusyError) as error:
            raise ApiError(409, "The model cannot be promoted, or another promotion is under way.") from error
        return await self._switched()

    async def refresh(self) -> None:
        """Once: switches to what the registry says, reads its calibration, loads the models beside."""
        async with self._turn:
            if self._config.follow == "latest":
                await asyncio.to_thread(self._promote_latest)
            stamp = await asyncio.to_thread(self._read_stamp)
            if self._current is None or stamp != self._stamp:
                wanted, *before = await asyncio.to_thread(self._wanted)
                if await self._take(wanted):
                    self._refused.clear()
                for ref in before if self._current is None else ():
                    if await self._take(ref):
                        break
                self._stamp = await asyncio.to_thread(self._read_stamp)
            if len(self._others) < len(self._config.compare):
                self._others = [
                    await self._load(await asyncio.to_thread(ref_of, path)) for path in self._config.compare
                ]

    async def _follow(self) -> None:
        while True:
            try:
                await self.refresh()
            except asyncio.CancelledError:
                raise
            except ApiError as error:  # nobody holds models yet, or a replica restarts
                self._why_not = error.detail
            except Exception as error:
                known = isinstance(error, (InputError, RunBusyError))
                log.error("The model cannot be followed: %s", error, exc_info=not known)
            await asyncio.sleep(self._config.follow_s)

    async def _switched(self) -> Served:
        """After a promotion: what is served now."""
        await self.refresh()
        served = await self.pick(None)
        assert self._registry is not None
        wanted = await asyncio.to_thread(self._registry.current)
        if wanted is None or wanted.model_version != served.info.model_version:
            raise ApiError(409, "The model did not pass its trial; the service's log says why. The present one stays.")
        return served

    async def _take(self, ref: ModelRef) -> bool:
        """Whether the model is the present one by now."""
        if self._ref is not None and ref.version == self._ref.version:
            assert self._current is not None
            calibration = await asyncio.to_thread(self._calibration, ref)
            self._current = Served(self._current.info, self._current.scorer, calibration)
            return True
        if ref.version in self._refused:
            return False
        try:
            served = await self._load(ref)
        except InputError as error:
            self._refused.add(ref.version)
            self._why_not = "The model cannot be served; the service's log says why."
            log.error("Model %s is not switched to: %s", ref.version, error)
            serve_metrics.count("sead_serve_switches_total", outcome="refused")
            return False
        before, self._current, self._ref = self._ref, served, ref
        serve_metrics.count("sead_serve_switches_total", outcome="switched")
        log.info("Model %s serves%s.", ref.version, f", after {before.version}" if before else "")
        return True

    async def _load(self, ref: ModelRef) -> Served:
        info = await self._host.try_out(ref, self._ref)
        calibration = await asyncio.to_thread(self._calibration, ref)
        return Served(info, self._host.bind(ref, info), calibration)

    def _wanted(self) -> list[ModelRef]:
        """The model to serve; behind it those before it, should it not pass where the service starts."""
        ref = ref_of(find_model(self._config))
        if self._registry is None:
            return [ref]
        if self._registry.current() is None:  # a roll-back shall find its way here
            self._registry.promote(_key(self._registry.run, ref), "start")
        before = [line for line in reversed(self._registry.standing()) if line.model_version != ref.version]
        return [ref, *(ModelRef(line.model_version, self._registry.run.path(line.key)) for line in before)]

    def _promote_latest(self) -> None:
        """The newest round's model, unless it was promoted before: one that was rolled back stays away."""
        if self._registry is None or (number := newest_round(self._registry.run)) is None:
            return
        key, history = layout.model(number), self._registry.history()
        if history and key not in [line.key for line in history]:
            self._registry.promote(key)

    def _calibration(self, ref: ModelRef):
        return self._registry.calibration(ref.version) if self._registry is not None else None

    def _read_stamp(self) -> object:
        if self._registry is None or self._ref is None:
            return None
        return self._registry.stamp(self._ref.version)

    def _followed(self) -> Registry:
        if self._registry is None:
            raise fixed()
        return self._registry


def _key(run: Store, ref: ModelRef) -> str:
    return ref.folder.removeprefix(run.root).lstrip("/")
