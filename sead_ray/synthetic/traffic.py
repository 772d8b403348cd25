"""The simulation: drivers follow their routes (IDM), stop at red and for people; people cross when they can.

Only one arm of a junction has green at a time, so that ways never cross inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.cast import Actor
from sead_ray.synthetic.routes import STEP_M, axle_poses, body_pose
from sead_ray.synthetic.town import Town

DT_S = 0.2
GREEN_S, YELLOW_S, CLEAR_S = 6.0, 1.6, 1.4
MAX_ACCELERATION, COMFORT_BRAKE, HARD_BRAKE = 1.8, 2.0, 5.5  # m/s^2
HEADWAY_S, STANDSTILL_M = 1.3, 1.2
JERK_MPS3 = 5.0
AHEAD_M = np.arange(0.5, 46.0, 1.0)
CIRCLES = np.linspace(-0.5, 0.5, 5)


@dataclass(frozen=True)
class Signals:
    """Phase of every junction over time: each arm in turn has green, yellow, then all are red."""

    arms: tuple[int, ...]
    offsets_s: NDArray[np.float64]

    def state(self, junction: int, phase: int, time_s: float) -> str:
        slot = GREEN_S + YELLOW_S + CLEAR_S
        inside = (time_s + self.offsets_s[junction]) % (slot * self.arms[junction]) - slot * phase
        if 0 <= inside < GREEN_S:
            return "green"
        return "yellow" if GREEN_S <= inside < GREEN_S + YELLOW_S else "red"


@dataclass
class Tracks:
    """What happened: for each actor its states at steps of DT_S.

    Attributes:
        along: (steps, drivers) and speeds, accelerations alike; walkers: (steps, walkers, 3) x, y, heading.
        drivers, walkers: actor numbers of the columns.
    """

    actors: list[Actor]
    signals: Signals
    drivers: list[int]
    walkers: list[int]
    along: NDArray[np.float64]
    speed: NDArray[np.float64]
    braking: NDArray[np.bool_]
    walk: NDArray[np.float64]
    points: NDArray[np.float64]  # (drivers, n, 2) routes, padded to one length
    wheelbases: NDArray[np.float64]
    places: NDArray[np.float64]  # (actors, 3) of those that stand still

    def poses(self, time_s: float) -> NDArray[np.float64]:
        """(actors, 4) x, y of the box centre, heading, speed at a time."""
        out = np.zeros((len(self.actors), 4))
        out[:, :3] = self.places
        out[self.drivers] = self._driver_poses(time_s)
        step = min(time_s / DT_S, len(self.walk) - 1.001)
        low = int(step)
        share = step - low
        for column, number in enumerate(self.walkers):
            a, b = self.walk[low, column], self.walk[low + 1, column]
            out[number, :2] = a[:2] * (1 - share) + b[:2] * share
            out[number, 2] = a[2] + share * ((b[2] - a[2] + np.pi) % (2 * np.pi) - np.pi)
            out[number, 3] = np.hypot(*(b[:2] - a[:2])) / DT_S
        return out

    def driver_states(self, column: int, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """(k, 4) x, y, heading, speed of a driver."""
        actor = self.actors[self.drivers[column]]
        assert actor.route is not None
        along, speed = self._motion(times_s, column)
        middle, heading = body_pose(actor.route, along, actor.wheelbase_m)
        return np.concatenate([middle, heading[:, None], speed[:, None]], axis=1)

    def _motion(self, times_s: NDArray[np.float64] | float, columns) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance along the route and speed: the cubic through positions and speeds of the two steps around."""
        position = np.clip(np.asarray(times_s) / DT_S, 0, len(self.along) - 1.001)
        low = position.astype(np.int64)
        u = position - low
        start, end = self.along[low, columns], self.along[low + 1, columns]
        v0, v1 = self.speed[low, columns] * DT_S, self.speed[low + 1, columns] * DT_S
        along = start + u * (v0 + u * (3 * (end - start) - 2 * v0 - v1 + u * (2 * (start - end) + v0 + v1)))
        step = v0 + u * (6 * (end - start) - 4 * v0 - 2 * v1 + 3 * u * (2 * (start - end) + v0 + v1))
        return along, step / DT_S

    def _driver_poses(self, time_s: float) -> NDArray[np.float64]:
        """(drivers, 4) like `poses`."""
        along, speed = self._motion(time_s, np.arange(len(self.drivers)))
        middle, heading = axle_poses(self.points, along, self.wheelbases)
        return np.concatenate([middle, heading[:, None], speed[:, None]], axis=1)

    def is_braking(self, time_s: float) -> NDArray[np.bool_]:
        out = np.zeros(len(self.actors), bool)
        out[self.drivers] = self.braking[min(round(time_s / DT_S), len(self.braking) - 1)]
        return out


def simulate(town: Town, actors: list[Actor], horizon_s: float, rng: np.random.Generator) -> Tracks:
    """Runs the scene from 0 to `horizon_s`."""
    world = _World(town, actors, rng)
    steps = int(np.ceil(horizon_s / DT_S)) + 2
    history: list[tuple] = []
    for step in range(steps):
        history.append((world.along.copy(), world.speed.copy(), world.acceleration < -0.7, world.walk_states()))
        world.advance(step * DT_S)
    along, speed, braking, walk = (np.array(column) for column in zip(*history))
    places = np.array([actor.place for actor in actors])
    return Tracks(
        actors,
        world.signals,
        world.drivers,
        world.walkers,
        along,
        speed,
        braking,
        walk,
        world.points,
        world.reach,
        places,
    )


class _World:
    """State of a running simulation."""

    def __init__(self, town: Town, actors: list[Actor], rng: np.random.Generator) -> None:
        self.town, self.actors = town, actors
        self.drivers = [number for number, actor in enumerate(actors) if actor.route is not None]
        self.walkers = [number for number, actor in enumerate(actors) if actor.path is not None]
        still = [actor for actor in actors if actor.route is None and actor.path is None]
        arms = tuple(len(junction.arms) for junction in town.junctions)
        offsets = rng.uniform(0, 60, len(arms))
        _favour_ego(offsets, actors[0], rng)
        self.signals = Signals(arms, offsets)
        self.routes = [actors[number].route for number in self.drivers]
        longest = max(len(route.points) for route in self.routes if route is not None)
        self.points = np.stack([_padded(route.points, longest) for route in self.routes if route is not None])
        self.limits = np.stack([_padded(route.limits_mps, longest) for route in self.routes if route is not None])
        self.along: NDArray[np.float64] = np.array([actors[number].start_m for number in self.drivers])
        self.speed = np.array([actors[number].speed_mps for number in self.drivers])
        self.acceleration = np.zeros(len(self.drivers))
        self.eagerness = np.array([actors[number].eagerness for number in self.drivers])
        self.sizes = np.array([actors[number].size_wlh_m for number in self.drivers])
        self.reach = np.array([actors[number].wheelbase_m for number in self.drivers])
        self.walked = np.zeros(len(self.walkers))
        self.paths = [
            (path, lines.arc_lengths(path)) for path in (actors[n].path for n in self.walkers) if path is not None
        ]
        self.walk_length = np.array([along[-1] for _, along in self.paths])
        self.still_points, self.still_radius = _still_circles(still)

    def vehicle_poses(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(v, 2) centres and (v,) headings."""
        return axle_poses(self.points, self.along, self.reach)

    def walk_states(self) -> NDArray[np.float64]:
        """(walkers, 3) x, y, heading."""
        out = np.zeros((len(self.walkers), 3))
        for column, (path, along) in enumerate(self.paths):
            at = np.clip(self.walked[column] + np.array([-0.25, 0.0, 0.25]), 0, None)
            x, y = np.interp(at, along, path[:, 0]), np.interp(at, along, path[:, 1])
            out[column] = [x[1], y[1], np.arctan2(y[2] - y[0], x[2] - x[0])]
        return out

    def advance(self, time_s: float) -> None:
        centres, headings = self.vehicle_poses()
        people = self.walk_states()
        limit = self.limits[
            np.arange(len(self.along)), np.minimum((self.along / STEP_M).astype(int) + 1, self.limits.shape[1] - 1)
        ]
        desired = np.maximum(limit * self.eagerness, 0.5)
        gap, closing = self._leaders(centres, headings, people)
        wanted = _idm(self.speed, desired, gap, closing)
        for stop in (self._red_gaps(time_s), self._people_gaps(people, centres)):
            wanted = np.minimum(wanted, _idm(self.speed, desired, stop, self.speed))
        self._walk(time_s, centres, headings, people)
        low = np.where(wanted < -COMFORT_BRAKE, -HARD_BRAKE, self.acceleration - JERK_MPS3 * DT_S)
        step = np.clip(wanted, low, self.acceleration + 0.6 * JERK_MPS3 * DT_S)
        step = np.maximum(np.clip(step, -HARD_BRAKE, MAX_ACCELERATION), -self.speed / DT_S)
        step = np.where((self.speed < 0.4) & (wanted < 0.25), -self.speed / DT_S, step)  # stands, does not creep
        self.along = self.along + np.maximum(self.speed * DT_S + 0.5 * step * DT_S**2, 0)
        self.speed = np.maximum(self.speed + step * DT_S, 0)
        self.acceleration = step

    def _leaders(self, centres, headings, people) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Free metres ahead of each driver on its path, and how fast it closes in on what ends them."""
        along = np.stack([np.cos(headings), np.sin(headings)], axis=1)
        circles = centres[:, None] + along[:, None] * (
            CIRCLES[None, :, None] * (self.sizes[:, 1] - self.sizes[:, 0])[:, None, None]
        )
        count = len(centres)
        obstacles = np.concatenate([circles.reshape(-1, 2), people[:, :2], self.still_points])
        radius = np.concatenate([np.repeat(self.sizes[:, 0] / 2, 5), np.full(len(people), 0.4), self.still_radius])
        owner = np.concatenate([np.repeat(np.arange(count), 5), np.full(len(obstacles) - 5 * count, -1)])
        index = ((self.along[:, None] + AHEAD_M) / STEP_M).astype(np.int64)
        ahead = np.take_along_axis(self.points, np.minimum(index, self.points.shape[1] - 1)[..., None], axis=1)
        # Squared distances through a matrix product, around a near origin so that single precision is enough.
        a, b = (ahead - centres[0]).astype(np.float32), (obstacles - centres[0]).astype(np.float32)
        near = (a**2).sum(-1)[..., None] + (b**2).sum(-1) - 2 * (a @ b.T)
        hit = near < (self.sizes[:, 0, None] / 2 + radius + 0.2)[:, None] ** 2
        hit &= (owner[None] != np.arange(count)[:, None])[:, None]
        # What lies beside or behind the driver's own middle is not ahead of it.
        front = ((obstacles[None] - centres[:, None]) * along[:, None]).sum(-1) > 0.3 * self.sizes[:, 1, None]
        hit &= front[:, None]
        first = np.where(hit.any(axis=1), hit.argmax(axis=1), 10**6)
        which = first.argmin(axis=1)
        steps = first[np.arange(count), which]
        free = np.where(steps < 10**6, AHEAD_M[np.minimum(steps, len(AHEAD_M) - 1)] - self.sizes[:, 1] / 2, np.inf)
        leader = owner[which]
        pace = np.where(leader >= 0, self.speed[leader] * (along * along[leader]).sum(-1), 0.0)
        return free, self.speed - np.maximum(pace, 0.0)

    def _red_gaps(self, time_s: float) -> NDArray[np.float64]:
        """Free metres to the next stop line with red, or with yellow where it can still stop."""
        out = np.full(len(self.along), np.inf)
        for driver, route in enumerate(self.routes):
            assert route is not None
            front = self.along[driver] + self.sizes[driver, 1] / 2
            after = route.stops[route.stops[:, 0] > front - 1.0]
            if len(after) and after[0, 0] - front < 60:
                state = self.signals.state(int(after[0, 1]), int(after[0, 2]), time_s)
                distance = after[0, 0] - front
                can_stop = distance > self.speed[driver] ** 2 / (2 * 3.5)
                if state != "green" and (can_stop or (state == "red" and self.speed[driver] < 3)):
                    out[driver] = max(distance + 0.6, 0.01)
        return out

    def _people_gaps(self, people, centres) -> NDArray[np.float64]:
        """Free metres to the next crosswalk on which somebody walks towards or across the driver's path."""
        out = np.full(len(self.along), np.inf)
        busy: dict[int, list[int]] = {}
        for column, number in enumerate(self.walkers):
            crossing = self.actors[number].crossing
            if crossing and crossing[1] + 0.3 < self.walked[column] < crossing[2]:
                busy.setdefault(crossing[0], []).append(column)
        if not busy:
            return out
        for driver, route in enumerate(self.routes):
            assert route is not None
            front = self.along[driver] + self.sizes[driver, 1] / 2
            for distance, number in route.crosswalks:
                gap = distance - 2.2 - front
                if -1.5 < gap < 50 and int(number) in busy:
                    point = route.points[min(int(distance / STEP_M), len(route.points) - 1)]
                    if any(_still_matters(people[column], point) for column in busy[int(number)]):
                        out[driver] = min(out[driver], max(gap, 0.01))
        return out

    def _walk(self, time_s: float, centres, headings, people) -> None:
        for column, number in enumerate(self.walkers):
            actor = self.actors[number]
            step = actor.speed_mps * DT_S
            at = self.walked[column]
            if time_s < actor.delay_s or at >= self.walk_length[column] - 0.3:
                continue
            if (
                actor.crossing
                and at <= actor.crossing[1] < at + step
                and not self._may_cross(actor.crossing[0], time_s)
            ):
                continue
            ahead = people[column, :2] + np.array([np.cos(people[column, 2]), np.sin(people[column, 2])]) * (step + 0.4)
            if not self._touches(ahead, centres, headings):
                self.walked[column] = at + step

    def _touches(self, point, centres, headings) -> bool:
        delta = point - centres
        along = np.abs(delta[:, 0] * np.cos(headings) + delta[:, 1] * np.sin(headings))
        across = np.abs(-delta[:, 0] * np.sin(headings) + delta[:, 1] * np.cos(headings))
        return bool(((along < self.sizes[:, 1] / 2 + 0.7) & (across < self.sizes[:, 0] / 2 + 0.6)).any())

    def _may_cross(self, number: int, time_s: float) -> bool:
        """Every driver on its way to the crosswalk can still stop, and the arm's own signal is not green."""
        crossing = self.town.crosswalks[number]
        if crossing.arm is not None:
            for junction, node in enumerate(self.town.junctions):
                if crossing.arm in node.arms:
                    phase = node.arms.index(crossing.arm)
                    if any(self.signals.state(junction, phase, time_s + wait) != "red" for wait in (0, 2, 4)):
                        return False
        for driver, route in enumerate(self.routes):
            assert route is not None
            for distance, item in route.crosswalks:
                if int(item) != number:
                    continue
                gap = distance - 2.2 - self.along[driver] - self.sizes[driver, 1] / 2
                if -self.sizes[driver, 1] - 6 < gap < 0.5:
                    return False
                if 0.5 <= gap < self.speed[driver] ** 2 / (2 * COMFORT_BRAKE) + 3 and self.speed[driver] > 0.5:
                    return False
        return True


def _idm(speed, desired, gap, closing) -> NDArray[np.float64]:
    """Intelligent driver model's acceleration."""
    wish = STANDSTILL_M + np.maximum(
        0, speed * HEADWAY_S + speed * closing / (2 * np.sqrt(MAX_ACCELERATION * COMFORT_BRAKE))
    )
    free = np.where(
        speed > desired,
        -COMFORT_BRAKE * (1 - desired / np.maximum(speed, 0.1)),
        MAX_ACCELERATION * (1 - (speed / desired) ** 4),
    )
    return np.maximum(free - MAX_ACCELERATION * (wish / np.maximum(gap, 0.05)) ** 2, -HARD_BRAKE)


def _still_matters(person: NDArray[np.float64], point: NDArray[np.float64]) -> bool:
    """Somebody on the crosswalk matters until past the driver's path."""
    delta = person[:2] - point
    moving_away = delta @ np.array([np.cos(person[2]), np.sin(person[2])]) > 0
    return not (moving_away and np.hypot(*delta) > 2.6)


def _favour_ego(offsets: NDArray[np.float64], ego: Actor, rng: np.random.Generator) -> None:
    """In most scenes the ego's first signal is green, or about to be, when it arrives: more happens than waiting."""
    assert ego.route is not None
    distance, junction, phase = ego.route.stops[ego.route.stops[:, 0] > ego.start_m + 4][0]
    arrival = (distance - ego.start_m) / (0.75 * max(ego.route.limits_mps.max(), 5.0))
    if rng.random() < 0.65:
        offsets[int(junction)] = (GREEN_S + YELLOW_S + CLEAR_S) * phase + rng.uniform(-1.5, 4.0) - arrival


def _padded(values: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    return np.concatenate([values, np.repeat(values[-1:], length - len(values), axis=0)])


def _still_circles(still: list[Actor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, radius = [], []
    for actor in still:
        x, y, yaw = actor.place
        width, length = actor.size_wlh_m[:2]
        reach, thick = max(length - width, 0.0), min(length, width)
        for share in CIRCLES if reach > 0.5 else CIRCLES[2:3]:
            points.append((x + share * reach * np.cos(yaw), y + share * reach * np.sin(yaw)))
            radius.append(thick / 2)
    return np.array(points).reshape(-1, 2), np.array(radius)
