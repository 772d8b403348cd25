"""The models that one replica holds: loaded when they are first asked for, warmed, the least used one dropped."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from sead_ray.errors import InputError
from sead_ray.records import ClipScore
from sead_ray.wire import ModelInfo
from serve.scorer import LocalScorer, ModelRef, require_plausible


class Shelf:
    """
    Args:
        keep: models at a time; the one that was used longest ago makes room. Calls under way keep theirs.
        max_clips, wait_s: see `LocalScorer`.
    """

    def __init__(self, device: str, keep: int, max_clips: int | None = None, wait_s: float = 0.0) -> None:
        self._device, self._keep, self._max_clips, self._wait_s = device, keep, max_clips, wait_s
        self._turn = asyncio.Lock()  # one model at a time has the device
        self._loading = asyncio.Lock()
        self._held: OrderedDict[str, LocalScorer] = OrderedDict()
        self._trials: dict[str, ClipScore] = {}

    async def get(self, ref: ModelRef) -> LocalScorer:
        """The model, ready. Loads it beside those that work, where it is not held.

        Raises:
            InputError: its folder holds another model, or none.
        """
        async with self._loading:
            if ref.version not in self._held:
                scorer = await asyncio.to_thread(
                    LocalScorer, ref.folder, self._device, self._max_clips, self._turn, self._wait_s
                )
                found = (await scorer.info()).model_version
                if found != ref.version:
                    raise InputError(f"{ref.folder} holds model {found} by now, not {ref.version}.")
                self._trials[ref.version] = await scorer.warm_up()
                self._held[ref.version] = scorer
            self._held.move_to_end(ref.version)
            while len(self._held) > self._keep:
                self._held.popitem(last=False)
            return self._held[ref.version]

    async def try_out(self, ref: ModelRef, beside: ModelRef | None) -> ModelInfo:
        """Loads the model and looks at its score of the made-up clip, and at that of the one it is to replace.

        Raises:
            InputError: it cannot be loaded, or is not plausible.
        """
        scorer = await self.get(ref)
        known = self._trials.get(beside.version) if beside else None
        require_plausible(self._trials[ref.version], known)
        return await scorer.info()

    async def check(self) -> None:
        """Runs the model that was used last. Raises where it no longer works."""
        if self._held:
            await next(reversed(self._held.values())).check()
