"""Routes: a chain of lanes and connectors as one smooth path, with its speed limits, signals and crosswalks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.town import CROSSWALK_M, STOP_LINE_M, Town

STEP_M = 0.5
LATERAL_MPS2 = 2.3  # comfortable in curves
BRAKE_MPS2 = 1.6


@dataclass(frozen=True)
class Route:
    """A path in steps of STEP_M.

    Attributes:
        points: (n, 2); headings: (n,) unwrapped; limits_mps: (n,) reachable speed.
        stops: (k, 3) distance of a stop line, junction, phase.
        crosswalks: (k, 2) distance of a crosswalk's middle, its number.
        turns: (k, 2) distance at which a connector begins, its turn (+1 left, -1 right).
    """

    points: NDArray[np.float64]
    headings: NDArray[np.float64]
    limits_mps: NDArray[np.float64]
    stops: NDArray[np.float64]
    crosswalks: NDArray[np.float64]
    turns: NDArray[np.float64]

    @property
    def length_m(self) -> float:
        return (len(self.points) - 1) * STEP_M


def plan_route(
    town: Town, lane: int, length_m: float, rng: np.random.Generator, first_turn: int | None = None
) -> Route:
    """From the start of a lane over random connectors. `first_turn`: preferred turn at the first junction."""
    pieces, limits, stops, turns, lanes_used = [], [], [], [], []
    at = 0.0
    while at < length_m:
        here = town.lanes[lane]
        road = town.roads[here.road]
        pieces.append(here.line)
        limits.append((lines.length(here.line), road.speed_mps))
        lanes_used.append((lane, at))
        at += lines.length(here.line)
        junction = town.junctions[here.junctions[1]]
        stops.append((at - STOP_LINE_M, here.junctions[1], junction.arms.index(here.arm)))
        options = town.outgoing[lane]
        wanted = [number for number in options if town.connectors[number].turn == first_turn]
        choice = town.connectors[int(rng.choice(wanted if wanted and len(turns) == 0 else options))]
        turns.append((at, choice.turn))
        pieces.append(choice.line)
        limits.append((lines.length(choice.line), 9.0))
        at += lines.length(choice.line)
        lane = choice.to_lane
    line = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
    line = lines.smooth(line, 2.2, STEP_M)
    stretch = lines.length(line) / at  # smoothing cuts corners a little
    line = lines.resample(line, STEP_M)
    line = lines.points_at(line, np.arange(0, lines.length(line), STEP_M))
    return Route(
        line,
        np.unwrap(lines.headings(line)),
        _speed_limits(line, limits, stretch),
        np.array([(distance * stretch, junction, phase) for distance, junction, phase in stops]).reshape(-1, 3),
        _crosswalks_on(town, lanes_used, line),
        np.array([(distance * stretch, turn) for distance, turn in turns]).reshape(-1, 2),
    )


def _speed_limits(line: NDArray[np.float64], limits: list[tuple[float, float]], stretch: float) -> NDArray[np.float64]:
    """Road limits and curvature, made reachable by a backward pass with a comfortable brake."""
    ends = np.cumsum([distance for distance, _ in limits]) * stretch
    which = np.minimum(np.searchsorted(ends, np.arange(len(line)) * STEP_M), len(limits) - 1)
    base = np.array([limit for _, limit in limits])[which]
    curvature = np.abs(np.gradient(np.unwrap(lines.headings(line)), STEP_M))
    out = np.minimum(base, np.sqrt(LATERAL_MPS2 / np.maximum(curvature, 1e-3)))
    for index in range(len(out) - 2, -1, -1):
        out[index] = min(out[index], np.sqrt(out[index + 1] ** 2 + 2 * BRAKE_MPS2 * STEP_M))
    return out


def _crosswalks_on(town: Town, lanes_used: list[tuple[int, float]], line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Crosswalks that the path crosses, in order; the same one may come again on a later lap."""
    out = []
    for number, crossing in enumerate(town.crosswalks):
        middle = crossing.ends.mean(axis=0)
        across = (crossing.ends[1] - crossing.ends[0]) / np.linalg.norm(crossing.ends[1] - crossing.ends[0])
        offset = line - middle
        near = (np.abs(offset @ across) < 12) & (np.abs(offset @ [-across[1], across[0]]) < CROSSWALK_M / 2)
        starts = np.flatnonzero(near & ~np.concatenate([[False], near[:-1]]))
        out += [(float((start + 3) * STEP_M), number) for start in starts]
    return np.array(sorted(out)).reshape(-1, 2)


def route_points(route: Route, along_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 2) points by linear interpolation."""
    position = np.clip(np.asarray(along_m) / STEP_M, 0, len(route.points) - 1.001)
    index = position.astype(np.int64)
    share = (position - index)[..., None]
    return route.points[index] * (1 - share) + route.points[index + 1] * share


def body_pose(route: Route, along_m: NDArray[np.float64], wheelbase_m: float) -> tuple[NDArray, NDArray]:
    """Middle between two axles that both run on the path, and the heading from rear to front axle."""
    rear = route_points(route, along_m - wheelbase_m / 2)
    front = route_points(route, along_m + wheelbase_m / 2)
    delta = front - rear
    return (rear + front) / 2, np.arctan2(delta[..., 1], delta[..., 0])


def axle_poses(
    points: NDArray[np.float64], along_m: NDArray[np.float64], wheelbases_m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`body_pose` of many drivers at once, each on its own row of `points` (d, n, 2): (d, 2) and (d,)."""
    ends = []
    row = np.arange(len(along_m))
    for shift in (-0.5, 0.5):
        position = np.clip((along_m + shift * wheelbases_m) / STEP_M, 0, points.shape[1] - 1.001)
        low = position.astype(np.int64)
        share = (position - low)[:, None]
        ends.append(points[row, low] * (1 - share) + points[row, low + 1] * share)
    delta = ends[1] - ends[0]
    return (ends[0] + ends[1]) / 2, np.arctan2(delta[:, 1], delta[:, 0])
