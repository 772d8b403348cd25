"""Where the ego drives: a route on which it comes to the scenario's place at the scenario's time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sead_ray.synthetic import lines
from sead_ray.synthetic.actors import Actor, make_ego
from sead_ray.synthetic.routes import STEP_M, Route, plan_route, random_way
from sead_ray.synthetic.scenarios import Scenario
from sead_ray.synthetic.town import Town


@dataclass(frozen=True)
class Staging:
    """The ego, its lane at the event, and where on its route (m) and when (s) the event is."""

    ego: Actor
    lane: int
    event_m: float
    event_s: float

    @property
    def route(self) -> Route:
        assert self.ego.route is not None
        return self.ego.route


def stage_ego(town: Town, scenario: Scenario, event_s: float, horizon_s: float, rng: np.random.Generator) -> Staging:
    """Draws a place that fits the scenario, and a start from which the ego gets there after `event_s`."""
    lane, way, along = _place(town, scenario, rng)
    ways = [way]
    ahead = 16.0 * horizon_s + 150
    # lanes before it, until the ego can come from far enough
    first, before = lane, 0.0
    while before + along < 15.0 * event_s + 25 and len(ways) < 5:
        entries = [number for number, item in enumerate(town.connectors) if item.to_lane == first]
        if not entries:  # an outer lane that begins here
            break
        entry = int(rng.choice(entries))
        ways.insert(0, entry)
        first = town.connectors[entry].from_lane
        before += lines.length(town.connectors[entry].line) + lines.length(town.lanes[first].line)
    route = plan_route(town, first, before + along + ahead, rng, ways)
    begin = route.passages[len(ways) - 2, 1] if len(ways) > 1 else 0.0
    event_m = float(begin + along)
    eager = float(rng.uniform(0.84, 1.0))
    seconds = np.cumsum(STEP_M / np.maximum(route.limits_mps * eager * 0.97, 1.0))
    here = min(int(event_m / STEP_M), len(seconds) - 1)
    start = float(np.searchsorted(seconds, max(seconds[here] - event_s, 0.0)) * STEP_M)
    ego = make_ego(route, max(start, 6.0), rng)
    ego.manner.eager = eager
    return Staging(ego, lane, event_m, event_s)


def _place(town: Town, scenario: Scenario, rng: np.random.Generator) -> tuple[int, int, float]:
    """A lane, the connector after it, and the event's distance along the lane."""
    lengths = np.array([lines.length(lane.line) for lane in town.lanes])
    if scenario.junction is not None:
        fits = [
            number
            for number, item in enumerate(town.connectors)
            if town.junctions[item.junction].kind == scenario.junction
            and (scenario.turn is None or item.turn == scenario.turn)
            and (scenario.name != "turn_empty" or item.turn != 0)
        ]
        if not fits:  # a town without such a turn at such a junction
            fits = [n for n, item in enumerate(town.connectors) if scenario.turn in (None, item.turn)]
        way = int(rng.choice(fits))
        lane = town.connectors[way].from_lane
        return lane, way, float(lengths[lane])
    lanes = _lanes_between(town, scenario, lengths)
    lane = int(rng.choice(lanes))
    return lane, random_way(town, lane, rng), float(rng.uniform(0.42, 0.58) * lengths[lane])


def _lanes_between(town: Town, scenario: Scenario, lengths) -> list[int]:
    """Lanes on whose road the event can happen, those that fit best if any."""
    roads = [town.roads[lane.road] for lane in town.lanes]
    long = [number for number in range(len(roads)) if lengths[number] > 95] or list(range(len(roads)))
    if scenario.fast:
        limit = np.quantile([roads[number].speed_mps for number in long], 0.7)
        return [number for number in long if roads[number].speed_mps >= limit]
    outer = [number for number in long if town.lanes[number].rank == roads[number].lanes - 1]
    if scenario.event == "closure":
        return [number for number in outer if roads[number].lanes > 1] or outer
    if scenario.event in ("dart_out", "pull_out") or scenario.name == "parked_rows":
        return [number for number in outer if roads[number].parking] or outer
    if scenario.event in ("stopped", "cyclist", "works"):
        return [number for number in outer if lengths[number] > 120] or outer
    return long
