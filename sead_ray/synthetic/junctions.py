"""Junctions: signalled, with a right of way, or roundabouts; the ways across them, and where those conflict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPoint, Point, Polygon
from shapely.ops import unary_union

from sead_ray.synthetic import lines
from sead_ray.synthetic.lines import Line
from sead_ray.synthetic.network import RING_HALF_M, RING_M, Connector, Junction, JunctionKind, Lane, Road, arm_end

CLOSE_M = 2.7  # two ways conflict where their middles are nearer: two cars' widths and some air
ENTRY_RAD = np.deg2rad(24)  # a roundabout's entry and exit beside the arm's bearing


def build_junction(number: int, kind: JunctionKind, roads: Sequence[Road], centre: NDArray[np.float64]) -> Junction:
    arms = []
    corners = []
    for index, road in enumerate(roads):
        for at_end in (False, True):
            if road.nodes[int(at_end)] == number:
                point, inward = arm_end(road, at_end)
                side = np.array([-inward[1], inward[0]]) * road.half_m
                arms.append((index, at_end, float(np.arctan2(*(point - centre)[::-1]))))
                corners.append([point + side, point - side])
    order = sorted(range(len(arms)), key=lambda arm: arms[arm][2])
    arms, corners = [arms[arm] for arm in order], [corners[arm] for arm in order]
    bearings = np.array([arm[2] for arm in arms])
    outline, island = _outline(kind, centre, corners)
    first, second = _opposite(bearings)
    groups = _groups(len(arms), first, second)
    main = tuple(arm in (first, second) for arm in range(len(arms)))
    return Junction(kind, centre, tuple((road, end) for road, end, _ in arms), groups, main, outline, island)


def _opposite(bearings: NDArray[np.float64]) -> tuple[int, int]:
    """The two arms that come nearest to a straight line."""
    bend = np.abs(np.abs((bearings[:, None] - bearings[None] + np.pi) % (2 * np.pi) - np.pi) - np.pi)
    first, second = np.unravel_index(int(bend.argmin()), bend.shape)
    return int(min(first, second)), int(max(first, second))


def _groups(arms: int, first: int, second: int) -> tuple[int, ...]:
    return tuple(0 if arm in (first, second) else 1 for arm in range(arms))


def _outline(kind: JunctionKind, centre, corners) -> tuple[Line, Line | None]:
    if kind != "roundabout":
        hull = MultiPoint(np.concatenate(corners)).convex_hull
        assert isinstance(hull, Polygon)
        return np.array(hull.exterior.coords)[:-1], None
    disc = Point(*centre).buffer(RING_M + RING_HALF_M, 32)
    parts = [disc]
    for ends in corners:
        # an arm that widens towards the ring
        middle = np.mean(ends, axis=0)
        inward = (centre - middle) / np.linalg.norm(centre - middle)
        wide = [end + inward * (np.linalg.norm(centre - middle) - RING_M) + 0.3 * (end - middle) for end in ends]
        parts.append(Polygon([ends[0], ends[1], wide[1], wide[0]]).buffer(0))
    area = unary_union(parts).buffer(1.5).buffer(-1.5)
    assert isinstance(area, Polygon)
    island = Point(*centre).buffer(RING_M - RING_HALF_M, 24)
    return np.array(Polygon(area.exterior).simplify(0.05).exterior.coords)[:-1], np.array(island.exterior.coords)[:-1]


def build_connectors(lanes: Sequence[Lane], junctions: Sequence[Junction], drives_right: bool) -> tuple[Connector, ...]:
    near_turn = -1 if drives_right else 1
    out = []
    for number, junction in enumerate(junctions):
        entering = [lane for lane, item in enumerate(lanes) if item.junctions[1] == number]
        leaving = [lane for lane, item in enumerate(lanes) if item.junctions[0] == number]
        for first in entering:
            for second in leaving:
                turn = _turn(lanes[first], lanes[second])
                if turn is not None and _ranks_match(lanes, first, second, turn, near_turn):
                    line = _way(lanes[first].line, lanes[second].line, junction, drives_right)
                    out.append(Connector(first, second, number, turn, line))
    return tuple(out)


def _way(entry: Line, exit_: Line, junction: Junction, drives_right: bool) -> Line:
    start, inward = entry[-1], lines.directions(entry)[-1]
    end, outward = exit_[0], lines.directions(exit_)[0]
    direct = lines.bezier(start, inward, end, outward)
    if junction.kind != "roundabout":
        return direct
    turn = 1.0 if drives_right else -1.0
    first = float(np.arctan2(*(start - junction.centre)[::-1])) + turn * ENTRY_RAD
    last = float(np.arctan2(*(end - junction.centre)[::-1])) - turn * ENTRY_RAD
    sweep = (last - first) * turn % (2 * np.pi)
    if sweep > 1.8 * np.pi:  # arms too close for a piece of the ring between them
        return direct
    angles = first + turn * np.linspace(0, sweep, max(3, int(sweep * RING_M / 0.5)))
    ring = junction.centre + RING_M * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tangents = turn * np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    pieces = [lines.bezier(start, inward, ring[0], tangents[0]), ring[1:-1]]
    return lines.resample(np.concatenate([*pieces, lines.bezier(ring[-1], tangents[-1], end, outward)]), 0.5)


def _turn(first: Lane, second: Lane) -> int | None:
    """The side to which one lane turns into another; None for a U-turn on one's own road."""
    if first.road == second.road and first.forward != second.forward:
        return None
    a, b = lines.headings(first.line)[-1], lines.headings(second.line)[0]
    change = (b - a + np.pi) % (2 * np.pi) - np.pi
    if abs(change) > np.deg2rad(150):
        return None
    return int(np.sign(change)) if abs(change) > np.deg2rad(35) else 0


def _ranks_match(lanes: Sequence[Lane], first: int, second: int, turn: int, near_turn: int) -> bool:
    """Straight on keeps the rank; a turn to the kerb's side goes outermost to outermost, the other innermost.

    Where two lanes go on into one they merge.
    """

    def outermost(lane: Lane) -> int:
        return max(other.rank for other in lanes if other.road == lane.road)

    a, b = lanes[first], lanes[second]
    if turn == 0:
        return b.rank == min(a.rank, outermost(b))
    if turn == near_turn:
        return a.rank == outermost(a) and b.rank == outermost(b)
    return a.rank == 0 and b.rank == 0


def find_conflicts(connectors: Sequence[Connector]) -> NDArray[np.float32]:
    """See `Town.conflicts`. Ways from the same lane do not conflict: whoever drives behind follows."""
    out = np.full((len(connectors), len(connectors), 4), -1, np.float32)
    shapes = [(item.line, lines.arc_lengths(item.line)) for item in connectors]
    for a, first in enumerate(connectors):
        for b, second in enumerate(connectors):
            if a == b or first.junction != second.junction or first.from_lane == second.from_lane:
                continue
            (line_a, along_a), (line_b, along_b) = shapes[a], shapes[b]
            apart = ((line_a[:, None] - line_b[None]) ** 2).sum(-1) < CLOSE_M**2
            if apart.any():
                rows, columns = np.flatnonzero(apart.any(1)), np.flatnonzero(apart.any(0))
                out[a, b] = [along_a[rows[0]], along_a[rows[-1]], along_b[columns[0]], along_b[columns[-1]]]
    return out
