"""What a world consists of: scenes, their logs, towns, splits and conditions, before anything is simulated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from sead_ray.config import WorldConfig
from sead_ray.synthetic.scenarios import deal
from sead_ray.synthetic.town import LOCATIONS

NIGHT_SHARE, RAIN_SHARE, NO_CAN_SHARE = 0.12, 0.20, 0.08
FIRST_NUMBER = 1201  # clear of nuScenes' own scenes, and of the devkit's lists of scenes without CAN data
EPOCH_US = 1_893_456_000_000_000  # 2030-01-01


@dataclass(frozen=True)
class LogPlan:
    number: int
    split: str
    location: str

    @property
    def vehicle(self) -> str:
        return "n008" if self.location.startswith("boston") else "n015"

    @property
    def date(self) -> str:
        return f"2030-{1 + self.number // 28 % 12:02d}-{1 + self.number % 28:02d}"

    @property
    def logfile(self) -> str:
        zone = "-0400" if self.vehicle == "n008" else "+0800"
        return f"{self.vehicle}-{self.date}-{10 + self.number // 336:02d}-00-00{zone}"


@dataclass(frozen=True)
class ScenePlan:
    number: int
    log: LogPlan
    night: bool
    rain: bool
    has_can: bool
    scenario: str

    @property
    def name(self) -> str:
        return f"scene-{FIRST_NUMBER + self.number:04d}"

    @property
    def start_us(self) -> int:
        return EPOCH_US + self.log.number * 86_400_000_000 + self.number * 120_000_000


def plan_world(world: WorldConfig) -> list[ScenePlan]:
    """Scenes in order, train logs first. At least four logs; no log is in two splits."""
    n_val = min(max(1, round(world.scenes * world.val_share)), world.scenes - 1)
    n_train = world.scenes - n_val
    n_logs = max(4, math.ceil(world.scenes / 6))
    val_logs = min(max(1, round(n_logs * n_val / world.scenes)), n_val)
    train_logs = min(n_logs - val_logs, n_train)
    val_logs = min(n_logs - train_logs, n_val)
    out: list[ScenePlan] = []
    for split, scenes, logs, first in (("train", n_train, train_logs, 0), ("val", n_val, val_logs, train_logs)):
        rng = np.random.default_rng([world.seed, 5, first])
        night = _pick(scenes, NIGHT_SHARE, rng, least=int(scenes >= 3))
        scenarios = deal(scenes, rng)
        flicker = {index for index, scenario in enumerate(scenarios) if scenario.name == "flicker"}
        rain = _pick(scenes, RAIN_SHARE, rng, int(scenes >= 2), night if scenes < 30 else set(), flicker)
        no_can = _pick(scenes, NO_CAN_SHARE, rng, least=int(split == "train" and scenes >= 5))
        for index in range(scenes):
            log = index * logs // scenes
            # Val drives in the towns of train, in other scenes.
            plan = LogPlan(first + log, split, LOCATIONS[log % len(LOCATIONS)])
            kind = scenarios[index].name
            out.append(ScenePlan(len(out), plan, index in night, index in rain, index not in no_can, kind))
    return out


def _pick(
    count: int,
    share: float,
    rng: np.random.Generator,
    least: int,
    last: Set[int] = frozenset(),
    first: Set[int] = frozenset(),
) -> set[int]:
    """A random share of the scenes: with `first` where there is room, with `last` only where nobody else is left."""
    order = sorted(rng.permutation(count).tolist(), key=lambda scene: (scene not in first, scene in last))
    return set(order[: max(least, round(share * count))])


def token(seed: int, *parts: object) -> str:
    """32 hexadecimal characters from what a row stands for."""
    text = "/".join(str(part) for part in (seed, *parts))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
