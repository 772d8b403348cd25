"""From the cast to tracks: arrays for the simulation, and where everybody was at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.actors import Actor
from sead_ray.synthetic.motion import CIRCLES, NEVER, Drivers, Network, State, Walkers, WalkState, wheelbase
from sead_ray.synthetic.routes import STEP_M
from sead_ray.synthetic.simulation import DT_S, run
from sead_ray.synthetic.town import Town
from sead_ray.synthetic.walking import PATH_STEP_M
from sead_ray.synthetic.yielding import signal_state

_KINDS = {"signal": 0, "priority": 1, "roundabout": 2}
_SHOWN = ("green", "yellow", "red")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Signals:
    """The signals of a town in one scene: each of a junction's two phases has green, yellow, then all are red."""

    groups: tuple[tuple[int, ...], ...]
    offsets_s: Array

    def state(self, junction: int, arm: int, time_s: float) -> str:
        return _SHOWN[signal_state(self.groups[junction][arm], float(self.offsets_s[junction]), float(time_s))]


@dataclass
class Tracks:
    """What happened, at steps of DT_S.

    Attributes:
        driven: (steps, drivers, 5) along, speed, acceleration, side, slope; walked: (steps, walkers, 4) x, y, heading,
            speed. drivers, walkers: actor numbers of the columns.
        points: (drivers, n, 2) routes. places: (actors, 3) of those that stand still.
    """

    actors: list[Actor]
    signals: Signals
    drivers: list[int]
    walkers: list[int]
    driven: Array
    walked: Array
    points: Array
    wheelbases: Array
    places: Array

    def poses(self, time_s: float) -> Array:
        """(actors, 4) x, y of the box centre, heading, speed at a time."""
        out = np.zeros((len(self.actors), 4))
        out[:, :3] = self.places
        out[self.drivers] = self._driver_poses(np.full(len(self.drivers), time_s), np.arange(len(self.drivers)))
        low, share = self._step(np.array(time_s), len(self.walked))
        a, b = self.walked[low], self.walked[low + 1]
        out[self.walkers, :2] = a[:, :2] * (1 - share) + b[:, :2] * share
        out[self.walkers, 2] = a[:, 2] + share * ((b[:, 2] - a[:, 2] + np.pi) % (2 * np.pi) - np.pi)
        out[self.walkers, 3] = a[:, 3] * (1 - share) + b[:, 3] * share
        return out

    def driver_states(self, column: int, times_s: Array) -> Array:
        """(k, 4) x, y, heading, speed of a driver."""
        return self._driver_poses(np.asarray(times_s, np.float64), np.full(len(times_s), column))

    def motion(self, column: int, times_s: Array) -> Array:
        """(k, 5) along, speed, acceleration, side, slope of a driver."""
        low, share = self._step(np.asarray(times_s, np.float64), len(self.driven))
        along, speed, side, slope = self._blend(low, share, np.full(len(low), column))
        pull = self.driven[low, column, 2] * (1 - share) + self.driven[low + 1, column, 2] * share
        return np.stack([along, speed, pull, side, slope], axis=1)

    def is_braking(self, time_s: float) -> NDArray[np.bool_]:
        out = np.zeros(len(self.actors), bool)
        state = self.driven[min(round(time_s / DT_S), len(self.driven) - 1)]
        out[self.drivers] = (state[:, 2] < -0.7) | (state[:, 1] < 0.1)
        return out

    @staticmethod
    def _step(times_s: Array, steps: int) -> tuple[NDArray[np.int64], Array]:
        position = np.clip(times_s / DT_S, 0, steps - 1.001)
        low = position.astype(np.int64)
        return low, position - low

    def _blend(self, low, u, columns) -> tuple[Array, Array, Array, Array]:
        """Cubics through positions and speeds of the two steps around: along, speed, side, slope."""
        a, b = self.driven[low, columns], self.driven[low + 1, columns]
        start, end, v0, v1 = a[:, 0], b[:, 0], a[:, 1] * DT_S, b[:, 1] * DT_S
        along = start + u * (v0 + u * (3 * (end - start) - 2 * v0 - v1 + u * (2 * (start - end) + v0 + v1)))
        speed = v0 + u * (6 * (end - start) - 4 * v0 - 2 * v1 + 3 * u * (2 * (start - end) + v0 + v1))
        # sideways things change over many steps
        side, slope = (a[:, column] * (1 - u) + b[:, column] * u for column in (3, 4))
        return along, np.maximum(speed / DT_S, 0), side, slope

    def _driver_poses(self, times_s: Array, columns: NDArray[np.int64]) -> Array:
        low, share = self._step(times_s, len(self.driven))
        along, speed, side, slope = self._blend(low, share, columns)
        ends = []
        for shift in (-0.5, 0.5):
            position = np.clip((along + shift * self.wheelbases[columns]) / STEP_M, 0, self.points.shape[1] - 1.001)
            at = position.astype(np.int64)
            part = (position - at)[:, None]
            ends.append(self.points[columns, at] * (1 - part) + self.points[columns, at + 1] * part)
        delta = ends[1] - ends[0]
        yaw = np.arctan2(delta[:, 1], delta[:, 0])
        middle = (ends[0] + ends[1]) / 2 + side[:, None] * np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
        return np.column_stack([middle, yaw + np.arctan(slope), speed * np.sqrt(1 + slope**2)])


def simulate(town: Town, actors: list[Actor], offsets_s: Array, horizon_s: float) -> Tracks:
    """Runs the scene from 0 to `horizon_s`; the actors' numbers stay."""
    driving = [number for number, actor in enumerate(actors) if actor.route is not None]
    walking = [number for number, actor in enumerate(actors) if actor.walk is not None]
    arguments = simulation_arguments(town, actors, offsets_s)
    steps = int(np.ceil(horizon_s / DT_S)) + 2
    driven, walked = run(*arguments, steps)
    signals = Signals(tuple(junction.groups for junction in town.junctions), offsets_s)
    bases = np.array([wheelbase(actors[number].size_wlh_m[1]) for number in driving])
    places = np.array([actor.place for actor in actors])
    return Tracks(actors, signals, driving, walking, driven, walked, arguments[0].points, bases, places)


def simulation_arguments(
    town: Town, actors: list[Actor], offsets_s: Array
) -> tuple[Drivers, State, Walkers, WalkState, Network]:
    """What `simulation.run` begins with."""
    driving = [actor for actor in actors if actor.route is not None]
    walking = [actor for actor in actors if actor.walk is not None]
    still = still_circles([actor for actor in actors if actor.state])
    walk = WalkState(*(np.zeros(len(walking)) for _ in range(6)))
    network = network_arrays(town, offsets_s, still)
    return driver_arrays(driving), first_state(driving), walker_arrays(walking), walk, network


def _padded(rows: list[NDArray], fill: float | None) -> NDArray:
    """Rows of unequal length as one array; None repeats a row's last value."""
    longest = max(1, *(len(row) for row in rows))
    out = np.full((len(rows), longest, *rows[0].shape[1:]), NEVER if fill is None else fill)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
        if fill is None and len(row):
            out[number, len(row) :] = row[-1]
    return out


def driver_arrays(actors: list[Actor]) -> Drivers:
    routes = [actor.route for actor in actors if actor.route is not None]
    manners = [actor.manner for actor in actors]

    def column(values) -> Array:
        return np.array(list(values), np.float64)

    return Drivers(
        _padded([route.points for route in routes], None),
        _padded([route.headings for route in routes], None),
        _padded([route.limits_mps for route in routes], None),
        _padded([route.inner for route in routes], 0.0),
        _padded([route.outer for route in routes], 0.0),
        _padded([route.stops for route in routes], NEVER),
        _padded([route.passages for route in routes], NEVER),
        _padded([route.crosswalks for route in routes], NEVER),
        np.array([actor.size_wlh_m[:2] for actor in actors]),
        column(manner.eager for manner in manners),
        column(manner.headway_s for manner in manners),
        column(manner.accelerate_mps2 for manner in manners),
        column(manner.brake_mps2 for manner in manners),
        column(manner.bias_m for manner in manners),
        column(manner.phase_rad for manner in manners),
        column(manner.courtesy for manner in manners),
        column(actor.kind == "bicycle" for actor in actors),
        column(manner.skill for manner in manners),
        column(manner.cue_m for manner in manners),
        column(manner.cue_s for manner in manners),
        column(manner.cue_mode for manner in manners),
        column(manner.cue_factor for manner in manners),
    )


def first_state(actors: list[Actor]) -> State:
    count = len(actors)
    side = np.array([actor.side_m for actor in actors])
    return State(
        np.array([actor.start_m for actor in actors]),
        np.array([actor.speed_mps for actor in actors]),
        np.zeros(count),
        side,
        np.zeros(count),
        np.array([actor.manner.bias_m for actor in actors]),
        np.zeros(count),
        np.full(count, NEVER),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count),
    )


def walker_arrays(actors: list[Actor]) -> Walkers:
    walks = [actor.walk for actor in actors if actor.walk is not None]
    lengths = np.array([lines.length(walk.path) for walk in walks])
    paths = [
        lines.points_at(walk.path, np.arange(0, lines.length(walk.path) + PATH_STEP_M, PATH_STEP_M)) for walk in walks
    ]

    def column(name: str) -> Array:
        return np.array([getattr(walk, name) for walk in walks], np.float64)

    return Walkers(
        _padded(paths, None) if paths else np.zeros((0, 2, 2)),
        lengths,
        column("speed_mps"),
        column("delay_s"),
        column("cue_m"),
        np.array([walk.kerbs_m for walk in walks], np.float64).reshape(-1, 2),
        np.array([walk.crosswalk for walk in walks], np.int64),
        column("bold"),
        column("pause_m"),
        column("pause_s"),
    )


def network_arrays(town: Town, offsets_s: Array, still: Array) -> Network:
    groups = np.zeros((len(town.junctions), 6), np.int64)
    main = np.zeros((len(town.junctions), 6), np.int64)
    arms = {}
    for number, junction in enumerate(town.junctions):
        groups[number, : len(junction.groups)] = junction.groups
        main[number, : len(junction.main)] = junction.main
        arms |= {arm: (number, place) for place, arm in enumerate(junction.arms)}
    crosswalks = [arms[item.arm] if item.arm is not None else (-1, -1) for item in town.crosswalks]
    return Network(
        np.array([_KINDS[junction.kind] for junction in town.junctions]),
        groups,
        main,
        np.asarray(offsets_s, np.float64),
        town.conflicts,
        np.array([item.junction for item in town.connectors]),
        np.array(crosswalks, np.int64).reshape(-1, 2),
        1.0 if town.drives_right else -1.0,
        still,
    )


def still_circles(still: list[Actor]) -> Array:
    out = []
    for actor in still:
        x, y, yaw = actor.place
        width, length = actor.size_wlh_m[:2]
        spread, thick = max(length - width, 0.0), min(length, width)
        across = width > length  # a barrier
        spread = width - length if across else spread
        yaw = yaw + np.pi / 2 if across else yaw
        for share in np.linspace(-0.5, 0.5, CIRCLES) if spread > 0.5 else (0.0,):
            out.append((x + share * spread * np.cos(yaw), y + share * spread * np.sin(yaw), thick / 2))
    return np.array(out).reshape(-1, 3)
