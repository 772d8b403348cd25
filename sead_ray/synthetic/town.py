"""Towns: a bent grid of two-way roads, their lanes, junctions, crosswalks. Right- or left-hand traffic.

Corners of the grid become curves of one long road; crossings with three or four arms become signalled junctions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPoint, Polygon

from sead_ray.synthetic import lines
from sead_ray.synthetic.lines import Line

LOCATIONS = ("boston-seaport", "singapore-onenorth", "singapore-queenstown", "singapore-hollandvillage")
SIZE_M = 440.0
LANE_M = 3.5
PARKING_M = 2.4
SIDEWALK_M = 3.2
CROSSWALK_M = 3.0
STOP_LINE_M = 5.2  # before the end of the lane: crosswalk, then a gap


@dataclass(frozen=True)
class Road:
    """A road between two junctions. `line` is its middle; lanes_per_direction on either side of it."""

    line: Line
    nodes: tuple[int, int]  # junctions at its start and end
    lanes: int
    parking: bool
    speed_mps: float

    @property
    def half_m(self) -> float:
        return self.lanes * LANE_M + (PARKING_M if self.parking else 0.6)

    @property
    def length_m(self) -> float:
        return lines.length(self.line)


@dataclass(frozen=True)
class Lane:
    """One lane in its driving direction. rank 0 is next to the middle of the road."""

    road: int
    forward: bool
    rank: int
    line: Line
    junctions: tuple[int, int]  # where it comes from, where it leads to

    @property
    def arm(self) -> tuple[int, bool]:
        """The junction arm on which it ends: road, and whether at the road's end."""
        return self.road, self.forward


@dataclass(frozen=True)
class Connector:
    """A way across a junction. turn: +1 left, 0 straight, -1 right."""

    from_lane: int
    to_lane: int
    junction: int
    turn: int
    line: Line


@dataclass(frozen=True)
class Junction:
    centre: NDArray[np.float64]
    arms: tuple[tuple[int, bool], ...]  # (road, whether the road ends here); the order of the signal's phases
    outline: Line


@dataclass(frozen=True)
class Crosswalk:
    """From one kerb to the other. `arm` is set at junctions, None between them."""

    ends: Line  # (2, 2) on the kerbs
    road: int
    along_m: float  # distance along the road's line
    arm: tuple[int, bool] | None
    outline: Line


@dataclass(frozen=True, eq=False)
class Town:
    location: str
    drives_right: bool
    roads: tuple[Road, ...]
    lanes: tuple[Lane, ...]
    connectors: tuple[Connector, ...]
    junctions: tuple[Junction, ...]
    crosswalks: tuple[Crosswalk, ...]
    outgoing: tuple[tuple[int, ...], ...]  # connectors that leave each lane


@lru_cache(maxsize=4)
def build_town(location: str, seed: int) -> Town:
    """The town of a location; depends on its name and the world's seed alone."""
    index = LOCATIONS.index(location)
    rng = np.random.default_rng([seed, 7, index])
    drives_right = location.startswith("boston")
    raw, nodes = _raw_roads(rng)
    roads = tuple(_trim(road, raw) for road in raw)
    lanes = tuple(lane for number, road in enumerate(roads) for lane in _lanes(number, road, drives_right))
    junctions = tuple(_junction(number, roads, centre) for number, centre in enumerate(nodes))
    connectors = _connectors(lanes, len(junctions), drives_right)
    outgoing = tuple(
        tuple(number for number, item in enumerate(connectors) if item.from_lane == lane) for lane in range(len(lanes))
    )
    crosswalks = tuple(_crosswalks(roads, rng))
    return Town(location, drives_right, roads, lanes, connectors, junctions, crosswalks, outgoing)


def _raw_roads(rng: np.random.Generator) -> tuple[list[Road], list[NDArray[np.float64]]]:
    """Untrimmed roads from junction centre to junction centre, and those centres."""
    columns, rows = 4, 3
    xs, ys = np.linspace(50, SIZE_M - 50, columns), np.linspace(60, SIZE_M - 60, rows)
    spots = {(i, j): np.array([xs[i], ys[j]]) + rng.uniform(-9, 9, 2) for i in range(columns) for j in range(rows)}
    edges = [((i, j), (i + 1, j)) for i in range(columns - 1) for j in range(rows)]
    edges += [((i, j), (i, j + 1)) for i in range(columns) for j in range(rows - 1)]
    inner = [edge for edge in edges if edge[0][1] == 1 and edge[1][1] == 1]
    edges.remove(inner[rng.integers(len(inner))])
    neighbours = {spot: [edge for edge in edges if spot in edge] for spot in spots}
    keys = [spot for spot in spots if len(neighbours[spot]) > 2]
    number = {spot: index for index, spot in enumerate(keys)}
    roads, used = [], set()
    for spot in keys:
        for edge in neighbours[spot]:
            if edge in used:
                continue
            chain, here, link = [spot], spot, edge
            while True:
                used.add(link)
                here = link[1] if link[0] == here else link[0]
                chain.append(here)
                if here in number:
                    break
                link = next(other for other in neighbours[here] if other != link)
            line = _bend([spots[key] for key in chain], rng)
            lanes = 2 if rng.random() < 0.4 else 1
            parking = bool(rng.random() < 0.65)
            roads.append(Road(line, (number[spot], number[here]), lanes, parking, float(rng.uniform(9.0, 13.0))))
    return roads, [spots[key] for key in keys]


def _bend(chain: list[NDArray[np.float64]], rng: np.random.Generator) -> Line:
    """A smooth line through the chain, with a random bend between each two points."""
    points = [chain[0]]
    for start, end in pairwise(chain):
        along = (end - start) / np.linalg.norm(end - start)
        side = np.array([-along[1], along[0]]) * rng.uniform(-11, 11)
        points += [start + 28 * along, (start + end) / 2 + side, end - 28 * along, end]
    kept = [points[0], *(point for before, point in pairwise(points) if np.linalg.norm(point - before) > 1.0)]
    return lines.resample(lines.smooth(np.array(kept), 9.0), 1.0)


def _trim(road: Road, roads: list[Road]) -> Road:
    """The part outside its junctions."""
    margins = [7.5 + LANE_M * max(other.lanes for other in roads if node in other.nodes) for node in road.nodes]
    line = lines.cut(road.line, margins[0], lines.length(road.line) - margins[1])
    return Road(line, road.nodes, road.lanes, road.parking, road.speed_mps)


def _lanes(number: int, road: Road, drives_right: bool) -> list[Lane]:
    side = -1.0 if drives_right else 1.0
    out = []
    for forward in (True, False):
        for rank in range(road.lanes):
            left = side * (rank + 0.5) * LANE_M
            line = lines.offset(road.line, left if forward else -left)
            nodes = road.nodes if forward else (road.nodes[1], road.nodes[0])
            out.append(Lane(number, forward, rank, line if forward else line[::-1].copy(), nodes))
    return out


def arm_end(road: Road, at_end: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a road meets a junction: the point, and the unit direction into the junction."""
    tangents = lines.directions(road.line)
    return (road.line[-1], tangents[-1]) if at_end else (road.line[0], -tangents[0])


def _junction(number: int, roads: tuple[Road, ...], centre: NDArray[np.float64]) -> Junction:
    arms = []
    corners = []
    for index, road in enumerate(roads):
        for at_end in (False, True):
            if road.nodes[int(at_end)] == number:
                point, inward = arm_end(road, at_end)
                side = np.array([-inward[1], inward[0]]) * road.half_m
                arms.append((index, at_end, float(np.arctan2(*(point - centre)[::-1]))))
                corners += [point + side, point - side]
    arms.sort(key=lambda arm: arm[2])
    hull = MultiPoint(np.array(corners)).convex_hull
    assert isinstance(hull, Polygon)
    return Junction(centre, tuple((road, at_end) for road, at_end, _ in arms), np.array(hull.exterior.coords)[:-1])


def _connectors(lanes: tuple[Lane, ...], junctions: int, drives_right: bool) -> tuple[Connector, ...]:
    near_turn = -1 if drives_right else 1
    out = []
    for junction in range(junctions):
        entering = [number for number, lane in enumerate(lanes) if lane.junctions[1] == junction]
        leaving = [number for number, lane in enumerate(lanes) if lane.junctions[0] == junction]
        for first in entering:
            for second in leaving:
                turn = _turn(lanes[first], lanes[second])
                if turn is not None and _ranks_match(lanes, first, second, turn, near_turn):
                    a, b = lanes[first].line, lanes[second].line
                    line = lines.bezier(a[-1], lines.directions(a)[-1], b[0], lines.directions(b)[0])
                    out.append(Connector(first, second, junction, turn, line))
    return tuple(out)


def _turn(first: Lane, second: Lane) -> int | None:
    """The side to which one lane turns into another; None for a U-turn on one's own road."""
    if first.road == second.road and first.forward != second.forward:
        return None
    a, b = lines.headings(first.line)[-1], lines.headings(second.line)[0]
    change = (b - a + np.pi) % (2 * np.pi) - np.pi
    if abs(change) > np.deg2rad(150):
        return None
    return int(np.sign(change)) if abs(change) > np.deg2rad(35) else 0


def _ranks_match(lanes: tuple[Lane, ...], first: int, second: int, turn: int, near_turn: int) -> bool:
    """Straight on keeps the rank; a turn to the kerb's side goes outermost to outermost, the other innermost."""

    def outermost(lane: Lane) -> int:
        return max(other.rank for other in lanes if other.road == lane.road)

    a, b = lanes[first], lanes[second]
    if turn == 0:
        return b.rank == min(a.rank, outermost(b))
    if turn == near_turn:
        return a.rank == outermost(a) and b.rank == outermost(b)
    return a.rank == 0 and b.rank == 0


def _crosswalks(roads: tuple[Road, ...], rng: np.random.Generator) -> list[Crosswalk]:
    out = []
    for number, road in enumerate(roads):
        total = road.length_m
        spots: list[tuple[float, tuple[int, bool] | None]] = [(2.6, (number, False)), (total - 2.6, (number, True))]
        if total > 70:
            spots += [(float(total * fraction), None) for fraction in ([0.5] if total < 150 else [0.3, 0.7])]
        for along, arm in spots:
            piece = lines.cut(road.line, along - CROSSWALK_M / 2, along + CROSSWALK_M / 2)
            middle = lines.cut(road.line, along - 0.5, along + 0.5)
            ends = np.stack([lines.offset(middle, side * road.half_m).mean(axis=0) for side in (1, -1)])
            out.append(Crosswalk(ends, number, along, arm, lines.ribbon(piece, road.half_m, -road.half_m)))
    return out
