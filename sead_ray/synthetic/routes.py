"""Routes: a chain of lanes and connectors as one smooth path, with its speed limits, signals and crosswalks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.network import CROSSWALK_M, STOP_LINE_M, Town

STEP_M = 0.5
LATERAL_MPS2 = 2.1  # comfortable in curves
BRAKE_MPS2 = 1.6


@dataclass(frozen=True)
class Route:
    """A path in steps of STEP_M.

    Attributes:
        points: (n, 2); headings: (n,) unwrapped; limits_mps: (n,) reachable speed.
        stops: (k, 3) distance of a stop line, junction, phase.
        crosswalks: (k, 2) distance of a crosswalk's middle, its number.
        passages: (k, 4) of each junction in `stops`: where its connector begins and ends, the connector, its turn.
        inner, outer: (n,) what lies beside the lane, towards the middle of the road and away from it: 0 nothing to
            drive on, 1 a lane of the same direction, 2 a lane of the other direction.
    """

    points: NDArray[np.float64]
    headings: NDArray[np.float64]
    limits_mps: NDArray[np.float64]
    stops: NDArray[np.float64]
    crosswalks: NDArray[np.float64]
    passages: NDArray[np.float64]
    inner: NDArray[np.int8]
    outer: NDArray[np.int8]

    @property
    def length_m(self) -> float:
        return (len(self.points) - 1) * STEP_M


def plan_route(town: Town, lane: int, length_m: float, rng: np.random.Generator, ways: Sequence[int] = ()) -> Route:
    """From the start of a lane over the given connectors, then over random ones."""
    pieces, limits, stops, passages, beside = [], [], [], [], []
    at = 0.0
    while at < length_m:
        here = town.lanes[lane]
        road = town.roads[here.road]
        reach = lines.length(here.line)
        pieces.append(here.line)
        limits.append((reach, road.speed_mps))
        beside.append((1 if here.rank > 0 else 2, int(here.rank < road.lanes - 1)))
        at += reach
        node = here.junctions[1]
        junction = town.junctions[node]
        stops.append((at - STOP_LINE_M, node, junction.arms.index(here.arm)))
        known = len(passages) < len(ways)
        connector = ways[len(passages)] if known else random_way(town, lane, rng)
        way = town.connectors[connector]
        reach = lines.length(way.line)
        passages.append((at, at + reach, connector, way.turn))
        pieces.append(way.line)
        limits.append((reach, 7.5 if junction.kind == "roundabout" else 9.0))
        beside.append((0, 0))
        at += reach
        lane = way.to_lane
    line = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
    line = lines.smooth(line, 2.2, STEP_M)
    stretch = lines.length(line) / at  # smoothing cuts corners a little
    line = lines.points_at(line, np.arange(0, lines.length(line), STEP_M))
    which = _which_piece(line, limits, stretch)
    sides = np.array(beside, np.int8)[which]
    headings = np.unwrap(lines.headings(line))
    return Route(
        line,
        headings,
        _speed_limits(headings, np.array([limit for _, limit in limits])[which]),
        np.array([(distance * stretch, junction, phase) for distance, junction, phase in stops]).reshape(-1, 3),
        _crosswalks_on(town, line),
        np.array([(begin * stretch, end * stretch, way, turn) for begin, end, way, turn in passages]),
        sides[:, 0],
        sides[:, 1],
    )


def random_way(town: Town, lane: int, rng: np.random.Generator) -> int:
    """One of the connectors after a lane; most traffic goes straight on."""
    options = town.outgoing[lane]
    weights = np.array([3.0 if town.connectors[number].turn == 0 else 1.0 for number in options])
    return int(rng.choice(options, p=weights / weights.sum()))


def _which_piece(line: NDArray[np.float64], limits: list[tuple[float, float]], stretch: float) -> NDArray[np.int64]:
    """For each step the lane or connector on which it lies."""
    ends = np.cumsum([distance for distance, _ in limits]) * stretch
    return np.minimum(np.searchsorted(ends, np.arange(len(line)) * STEP_M), len(limits) - 1)


def _speed_limits(headings: NDArray[np.float64], base: NDArray[np.float64]) -> NDArray[np.float64]:
    """Road limits and curvature, made reachable by a backward pass with a comfortable brake."""
    curvature = np.abs(np.gradient(headings, STEP_M))
    squares = np.minimum(base, np.sqrt(LATERAL_MPS2 / np.maximum(curvature, 1e-3))) ** 2
    # the backward pass in closed form: the least of all later limits, each grown by the braking distance to it
    ramp = 2 * BRAKE_MPS2 * STEP_M * np.arange(len(squares))
    return np.sqrt(np.minimum.accumulate((squares + ramp)[::-1])[::-1] - ramp)


def _crosswalks_on(town: Town, line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crosswalks that the path crosses, in order; the same one may come again on a later lap."""
    out = []
    for number, crossing in enumerate(town.crosswalks):
        middle = crossing.ends.mean(axis=0)
        across = (crossing.ends[1] - crossing.ends[0]) / np.linalg.norm(crossing.ends[1] - crossing.ends[0])
        offset = line - middle
        near = (np.abs(offset @ across) < 12) & (np.abs(offset @ [-across[1], across[0]]) < CROSSWALK_M / 2)
        if not near.any():
            continue
        starts = np.flatnonzero(near & ~np.concatenate([[False], near[:-1]]))
        out += [(float((start + 3) * STEP_M), number) for start in starts]
    return np.array(sorted(out)).reshape(-1, 2)


def route_points(route: Route, along_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 2) points by linear interpolation."""
    position = np.clip(np.asarray(along_m) / STEP_M, 0, len(route.points) - 1.001)
    index = position.astype(np.int64)
    share = (position - index)[..., None]
    return route.points[index] * (1 - share) + route.points[index + 1] * share
