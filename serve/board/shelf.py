"""The runs below a folder. What a client names is looked up among those that were found: no path is made of it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.report.rounds import RoundRow, rounds_table
from sead_ray.stages import layout
from sead_ray.stages.run_state import RunState, run_state
from sead_ray.storage import Store

DEEPEST = 3
LOOK_AGAIN_S = 2.0


@dataclass(frozen=True)
class Run:
    """One run folder. `slug`: its name in addresses."""

    name: str
    slug: str
    store: Store

    def config(self) -> RunConfig:
        """Raises `InputError` where the configuration is not one of this release."""
        try:
            return RunConfig.model_validate(self.store.read_json(layout.CONFIG))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise InputError(f"{self.store.path(layout.CONFIG)} does not suit this release: {key}.") from None


@dataclass(frozen=True)
class Summary:
    """A run in the list; `error`: why it cannot be read, in place of everything else."""

    run: Run
    config: RunConfig | None = None
    rows: tuple[RoundRow, ...] = ()
    state: RunState | None = None
    error: str = ""

    @property
    def last(self) -> RoundRow | None:
        return self.rows[-1] if self.rows else None


class Shelf:
    """Finds the runs anew every few seconds, and reads each one's table again when its folder has changed."""

    def __init__(self, root: Store) -> None:
        self.root = root
        self._runs: dict[str, Run] = {}
        self._looked = float("-inf")
        self._tables: dict[str, tuple[object, tuple[RoundRow, ...]]] = {}

    def runs(self) -> dict[str, Run]:
        """By slug, in the order of the names."""
        if time.monotonic() - self._looked > LOOK_AGAIN_S:
            found: dict[str, Run] = {}
            for name in sorted(_names(self.root)):
                slug = _slug(name, found)
                found[slug] = Run(name or self.root.root.rsplit("/", 1)[-1], slug, self.root.below(name))
            self._runs, self._looked = found, time.monotonic()
        return self._runs

    def get(self, slug: str) -> Run | None:
        return self.runs().get(slug)

    def summary(self, run: Run) -> Summary:
        try:
            config = run.config()
            return Summary(run, config, self.rows(run), run_state(run.store, config))
        except InputError as error:
            return Summary(run, error=str(error))

    def rows(self, run: Run) -> tuple[RoundRow, ...]:
        """The rounds' table; read once for as long as no stage is published."""
        stamp = self.stamp(run)
        known = self._tables.get(run.slug)
        if known is None or known[0] != stamp:
            known = stamp, tuple(rounds_table(run.store))
            self._tables[run.slug] = known
        return known[1]

    def stamp(self, run: Run) -> tuple[object, ...]:
        """Changes with every stage that is published."""
        n_rounds = len(run.config().select.rounds)
        folders = [layout.CLIPS, layout.LABELS]
        for number in range(n_rounds):
            folders += [
                layout.scores(number),
                layout.selection(number),
                layout.model(number),
                layout.evaluation(number),
            ]
        manifests = [f"{folder}/manifest.json" for folder in folders]
        return tuple(run.store.stamps([layout.CONFIG, layout.QUARANTINE, *manifests]).values())


def _names(root: Store) -> Iterator[str]:
    """Paths below `root` of the folders that hold a run's configuration."""
    if not root.is_local:
        for key in root.find("", f"/{layout.CONFIG}"):
            yield key.removesuffix(layout.CONFIG).rstrip("/")
        return
    for folder, below, files in os.walk(root.root):  # links are not followed
        name = os.path.relpath(folder, root.root)
        if layout.CONFIG in files:
            yield "" if name == "." else name
            below.clear()
        elif name != "." and name.count(os.sep) + 1 >= DEEPEST:
            below.clear()
        below[:] = sorted(entry for entry in below if not entry.startswith("."))


def _slug(name: str, taken: dict[str, Run]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).strip(".-") or "run"
    slug, number = plain, 2
    while slug in taken:
        slug, number = f"{plain}-{number}", number + 1
    return slug
