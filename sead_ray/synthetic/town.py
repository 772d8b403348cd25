"""Towns: a bent grid of two-way roads, their lanes, junctions, crosswalks. Right- or left-hand traffic.

Corners of the grid become curves of one long road; crossings with three or four arms become junctions.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.junctions import build_connectors, build_junction, find_conflicts
from sead_ray.synthetic.lines import Line
from sead_ray.synthetic.network import (
    CROSSWALK_M,
    LANE_M,
    RING_HALF_M,
    RING_M,
    SIZE_M,
    Crosswalk,
    JunctionKind,
    Lane,
    Road,
    Town,
)

LOCATIONS = ("boston-seaport", "singapore-onenorth", "singapore-queenstown", "singapore-hollandvillage")
ROUNDABOUTS, PRIORITIES = 2, 3  # of about eight junctions; the others have signals


@lru_cache(maxsize=4)
def build_town(location: str, seed: int) -> Town:
    """The town of a location; depends on its name and the world's seed alone."""
    index = LOCATIONS.index(location)
    rng = np.random.default_rng([seed, 7, index])
    drives_right = location.startswith("boston")
    raw, nodes = _raw_roads(rng)
    kinds = _junction_kinds(len(nodes), rng)
    raw = [_at_ring(road, kinds) for road in raw]
    roads = tuple(_trim(road, raw, kinds) for road in raw)
    lanes = tuple(lane for number, road in enumerate(roads) for lane in _lanes(number, road, drives_right))
    junctions = tuple(build_junction(number, kinds[number], roads, centre) for number, centre in enumerate(nodes))
    connectors = build_connectors(lanes, junctions, drives_right)
    outgoing = tuple(
        tuple(number for number, item in enumerate(connectors) if item.from_lane == lane) for lane in range(len(lanes))
    )
    crosswalks = tuple(_crosswalks(roads, rng))
    conflicts = find_conflicts(connectors)
    return Town(location, drives_right, roads, lanes, connectors, junctions, crosswalks, outgoing, conflicts)


def _junction_kinds(count: int, rng: np.random.Generator) -> list[JunctionKind]:
    kinds: list[JunctionKind] = ["signal"] * count
    for rank, number in enumerate(rng.permutation(count)[: ROUNDABOUTS + PRIORITIES].tolist()):
        kinds[number] = "roundabout" if rank < ROUNDABOUTS else "priority"
    return kinds


def _at_ring(road: Road, kinds: list[JunctionKind]) -> Road:
    """Roads that meet a roundabout have one lane."""
    if all(kinds[node] != "roundabout" for node in road.nodes):
        return road
    return Road(road.line, road.nodes, 1, road.parking, road.speed_mps)


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
            roads.append(Road(line, (number[spot], number[here]), lanes, parking, float(rng.uniform(9.0, 15.0))))
    return roads, [spots[key] for key in keys]


def _bend(chain: list[NDArray[np.float64]], rng: np.random.Generator) -> Line:
    """A smooth line through the chain, with a random bend between each two points."""
    points = [chain[0]]
    for start, end in pairwise(chain):
        along = (end - start) / np.linalg.norm(end - start)
        side = np.array([-along[1], along[0]]) * rng.uniform(-11, 11)
        points += [start + 28 * along, (start + end) / 2 + side, end - 28 * along, end]
    kept = [points[0], *(point for before, point in pairwise(points) if np.linalg.norm(point - before) > 1.0)]
    return lines.resample(lines.smooth(np.array(kept), 12.0), 1.0)


def _trim(road: Road, roads: list[Road], kinds: list[JunctionKind]) -> Road:
    """The part outside its junctions."""
    margins = [
        RING_M + RING_HALF_M + 9.0
        if kinds[node] == "roundabout"
        else 7.5 + LANE_M * max(other.lanes for other in roads if node in other.nodes)
        for node in road.nodes
    ]
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
