"""What scenes are about: the long tail. A scenario says where the ego drives, how much is around it, and what happens.

Most scenes are simple; each rare class has a share of 2 to 3 %. The controls look lively to a naive score (speed,
turning, texture, flicker) and hold no interaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Event = Literal[
    "none",
    "lead",
    "red",
    "crosswalk",
    "crowd",
    "dart_out",
    "pull_out",
    "lead_brake",
    "stopped",
    "cyclist",
    "works",
    "closure",
]


@dataclass(frozen=True)
class Scenario:
    """One kind of scene.

    Attributes:
        share: of all scenes. group: "simple", "rare" or "control".
        junction: kind that the ego comes to, None: the event is between junctions. turn: wanted there, None: any.
        vehicles, people, parked: densities, 1 is usual for the kind of town. event: what is staged.
        fast: drives on the fastest road.
    """

    name: str
    share: float
    group: Literal["simple", "rare", "control"]
    junction: Literal["signal", "priority", "roundabout"] | None = None
    turn: int | None = None
    vehicles: float = 0.35
    people: float = 0.3
    parked: float = 1.0
    event: Event = "none"
    fast: bool = False


SCENARIOS = (
    Scenario("cruise", 0.178, "simple"),
    Scenario("follow", 0.11, "simple", event="lead"),
    Scenario("signal_green", 0.08, "simple", "signal", 0),
    Scenario("signal_red", 0.10, "simple", "signal", event="red"),
    Scenario("signal_left", 0.04, "simple", "signal", 1),
    Scenario("signal_right", 0.04, "simple", "signal", -1),
    Scenario("quiet_junction", 0.06, "simple", "priority"),
    Scenario("quiet_roundabout", 0.03, "simple", "roundabout", vehicles=0.2),
    Scenario("fast_empty", 0.03, "control", vehicles=0.0, people=0.0, parked=0.0, fast=True),
    Scenario("turn_empty", 0.03, "control", "priority", vehicles=0.0, people=0.0, parked=0.0),
    Scenario("parked_rows", 0.03, "control", vehicles=0.0, people=0.0, parked=3.0),
    Scenario("flicker", 0.02, "control", vehicles=0.0, people=0.0, parked=0.0),
    Scenario("crosswalk", 0.026, "rare", event="crosswalk"),
    Scenario("crowd", 0.022, "rare", people=1.6, event="crowd"),
    Scenario("dart_out", 0.026, "rare", parked=2.0, event="dart_out"),
    Scenario("pull_out", 0.024, "rare", event="pull_out"),
    Scenario("lead_brake", 0.026, "rare", event="lead_brake"),
    Scenario("stopped_vehicle", 0.020, "rare", event="stopped"),
    Scenario("slow_cyclist", 0.018, "rare", event="cyclist"),
    Scenario("road_works", 0.018, "rare", event="works"),
    Scenario("merge", 0.022, "rare", vehicles=1.0, event="closure"),
    Scenario("busy_junction", 0.026, "rare", "priority", vehicles=2.2, people=0.6),
    Scenario("busy_roundabout", 0.024, "rare", "roundabout", vehicles=2.2),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def deal(count: int, rng: np.random.Generator) -> list[Scenario]:
    """One scenario for each scene: the shares by largest remainder (remainders drawn), in random order."""
    shares = np.array([scenario.share for scenario in SCENARIOS])
    exact = shares / shares.sum() * count
    numbers = np.floor(exact).astype(int)
    rest = count - int(numbers.sum())
    if rest:
        chance = (exact - numbers) / (exact - numbers).sum()
        numbers[rng.choice(len(shares), rest, replace=False, p=chance)] += 1
    dealt = [scenario for scenario, number in zip(SCENARIOS, numbers) for _ in range(number)]
    return [dealt[place] for place in rng.permutation(count)]
