"""What somebody who sees everything knows of the embedded world at one moment: places, speeds, signals as they show.

Neither the recorded future nor anybody's manner is used, nor where others want to go: that is guessed from the map, and
how they drive from how they drive now. The ego's own route is known, as it is to any planner with a navigator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.actors import Actor, Manner, Walk
from sead_ray.synthetic.episode import Episode
from sead_ray.synthetic.network import Town
from sead_ray.synthetic.passing import INSIDE_LANE_M
from sead_ray.synthetic.routes import STEP_M, Route, plan_route
from sead_ray.synthetic.yielding import GREEN, GREEN_S, RED, SLOT_S, YELLOW, signal_state

REACH_M = 75.0
USUAL_SHARE = 0.93  # of the speed limit
NEAR_LANE_M, ALONG_RAD = 2.4, np.deg2rad(50)
PATIENT_S, PULL_S = 8.0, 0.3
PERSON_BACK_M, PERSON_AHEAD_M = 12.0, 12.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Present:
    """Actors as guessed, the ego first; for those who drive (in order) the first state of a simulation, for people on
    foot how far on their guessed way and how fast they are; signals frozen as they show."""

    town: Town
    actors: list[Actor]
    states: Array  # (D, 5) along, speed, acceleration, side, slope
    goals_m: Array  # (D,) the offset beside the route to which somebody seems to steer
    waited_s: Array  # (D,)
    walks: Array  # (W, 2) along, speed
    offsets_s: Array


def observe(episode: Episode, time_s: float) -> Present:
    """What there is to know at a time, from the tracks up to then."""
    tracks = episode.tracks
    poses, before = tracks.poses(time_s), tracks.poses(time_s - PULL_S)
    lanes = _lanes(episode.town)
    actors, states, waited, walks = [_ego(episode, time_s)], [tracks.motion(0, np.array([time_s]))[0]], [0.0], []
    near = np.hypot(*(poses[:, :2] - poses[0, :2]).T) < REACH_M
    for number in np.flatnonzero(near)[1:].tolist():
        actor = tracks.actors[number]
        if not actor.shown:
            continue
        guess = actor
        if actor.route is not None:
            guess, state = _driver(lanes, actor, poses[number], (poses[number, 3] - before[number, 3]) / PULL_S)
            if state is not None:
                states.append(state)
                waited.append(_stood_for(episode, number, time_s))
        elif actor.walk is not None:
            guess, walk = _person(lanes.town, actor, poses[number])
            walks.append(walk)
        actors.append(guess)
    goals = np.array([actor.manner.bias_m for actor in actors if actor.route is not None])
    goals[0] = _steered_to(episode, time_s, goals[0])
    ways = np.array(walks).reshape(-1, 2)
    signals = frozen_signals(episode, time_s)
    return Present(episode.town, actors, np.array(states), goals, np.array(waited), ways, signals)


def _ego(episode: Episode, time_s: float) -> Actor:
    """The ego on its true route, with the manner that its last second shows."""
    true = episode.tracks.actors[0]
    route = episode.staging.route
    along, speed, pull, side, _ = episode.tracks.motion(0, np.array([time_s]))[0]
    share = speed / route.limits_mps[_step(route, along + 0.5 + 0.45 * speed)]
    steady = share > 0.75 and abs(pull) < 0.4
    manner = Manner(
        eager=float(np.clip(share, 0.82, 1.05)) if steady else USUAL_SHARE,
        headway_s=1.3,
        bias_m=float(np.clip(side, -0.2, 0.2)),
        courtesy=True,
        skill=2,
    )
    return Actor(true.kind, true.size_wlh_m, true.colour, route, manner=manner)


def _steered_to(episode: Episode, time_s: float, home_m: float) -> float:
    """The offset to which the ego's wheel has turned it, by the law of `passing.steer`."""
    then, now = episode.tracks.motion(0, np.array([time_s - 0.2, time_s]))
    _, speed, _, side, slope = now
    metres = now[0] - then[0]
    if metres < 0.2:
        return home_m if abs(side) < INSIDE_LANE_M else float(side)
    pull = 2.6 / min(5.0 + 1.1 * speed, 15.0)
    goal = side + ((slope - then[4]) / metres + 2 * pull * slope) / pull**2
    if abs(goal - home_m) < 0.5 or (abs(side) < 0.4 and abs(slope) < 0.02):
        return home_m
    return float(np.clip(goal, -4.4, 4.4))


def _step(route: Route, along_m: float) -> int:
    return int(np.clip(along_m / STEP_M, 0, len(route.points) - 1))


def _stood_for(episode: Episode, number: int, time_s: float) -> float:
    column = episode.tracks.drivers.index(number)
    speeds = episode.tracks.motion(column, np.arange(max(time_s - PATIENT_S, 0.0), time_s, 0.2))[::-1, 1]
    moving = np.flatnonzero(speeds > 0.3)
    return float(0.2 * (moving[0] if len(moving) else len(speeds)))


@dataclass(frozen=True, eq=False)
class _Lanes:
    """Points of all lanes and of all ways across junctions, and whose they are: lane, connector or -1."""

    town: Town
    points: Array
    headings: Array
    owners: NDArray[np.int64]


@lru_cache(maxsize=4)
def _lanes(town: Town) -> _Lanes:
    points, headings, owners = [], [], []
    pieces = [(item.line, (number, -1)) for number, item in enumerate(town.lanes)]
    pieces += [(item.line, (item.from_lane, number)) for number, item in enumerate(town.connectors)]
    for line, owner in pieces:
        fine = lines.resample(line, 1.0)
        points.append(fine)
        headings.append(lines.headings(fine))
        owners += [owner] * len(fine)
    return _Lanes(town, np.concatenate(points), np.concatenate(headings), np.array(owners))


@lru_cache(maxsize=4096)
def _likely_route(town: Town, lane: int, connector: int) -> Route:
    """From the start of a lane straight on wherever that is possible."""
    ways = [connector] if connector >= 0 else []
    here = town.connectors[connector].to_lane if ways else lane
    for _ in range(4):
        way = min(town.outgoing[here], key=lambda number: (abs(town.connectors[number].turn), number))
        ways.append(way)
        here = town.connectors[way].to_lane
    length = lines.length(town.lanes[lane].line) + 130.0
    return plan_route(town, lane, length, np.random.default_rng(0), ways)


def _driver(lanes: _Lanes, true: Actor, pose: Array, pull: float) -> tuple[Actor, Array | None]:
    """Somebody who follows the lane on which they are; who stands beside the lanes counts as parked."""
    x, y, yaw, speed = pose.tolist()
    guess = Actor(true.kind, true.size_wlh_m, true.colour)
    owner = _lane_of(lanes, pose)
    if owner is None and speed < 0.3:
        guess.place, guess.state = (x, y, yaw), "parked"
        return guess, None
    route = _likely_route(lanes.town, *owner) if owner else _straight_on(pose)
    at = int(np.hypot(*(route.points - pose[:2]).T).argmin())
    heading = float(route.headings[at])
    cos, sin = np.cos(heading), np.sin(heading)
    dx, dy = x - route.points[at, 0], y - route.points[at, 1]
    along, side = at * STEP_M + dx * cos + dy * sin, dy * cos - dx * sin
    slope = np.clip(np.tan(np.clip(_angle(yaw - heading), -0.9, 0.9)), -0.5, 0.5)
    guess.route = route
    guess.manner = _manner(true.kind, speed / float(route.limits_mps[at]), side)
    return guess, np.array([along, speed, pull, side, slope])


def _manner(kind: str, share: float, side_m: float) -> Manner:
    """Who is on the move keeps on as now; who has slowed down or stands will drive as people do."""
    slow = kind == "bicycle"
    keeps = share > (0.2 if slow else 0.45)
    eager = float(np.clip(share, 0.36, 1.1)) if keeps else 0.42 if slow else USUAL_SHARE
    home = side_m if abs(side_m) < 1.2 else 0.0
    return Manner(eager=eager, accelerate_mps2=1.6, bias_m=home, courtesy=True, skill=1)


def _angle(rad: Array | float) -> Any:
    return (rad + np.pi) % (2 * np.pi) - np.pi


def _lane_of(lanes: _Lanes, pose: Array) -> tuple[int, int] | None:
    """The lane and connector (-1: none) that lies under a vehicle and leads its way."""
    away = np.hypot(*(lanes.points - pose[:2]).T)
    bend = np.abs(_angle(lanes.headings - pose[2]))
    cost = np.where((away < NEAR_LANE_M) & (bend < ALONG_RAD), away + 2.0 * bend, np.inf)
    best = int(cost.argmin())
    if not np.isfinite(cost[best]):
        return None
    lane, connector = lanes.owners[best].tolist()
    return lane, connector


def _straight_on(pose: Array) -> Route:
    steps = np.arange(0, 90, STEP_M) - 10.0
    direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
    nothing = np.zeros(len(steps), np.int8)
    return Route(
        pose[:2] + steps[:, None] * direction,
        np.full(len(steps), pose[2]),
        np.full(len(steps), max(float(pose[3]), 0.5)),
        np.zeros((0, 3)),
        np.zeros((0, 2)),
        np.zeros((0, 4)),
        nothing,
        nothing,
    )


def _person(town: Town, true: Actor, pose: Array) -> tuple[Actor, tuple[float, float]]:
    """Somebody who walks straight on; who stands at a crosswalk and looks across it wants to cross."""
    direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
    path = pose[:2] + np.array([[-PERSON_BACK_M], [0.0], [PERSON_AHEAD_M]]) * direction
    crosswalk, kerbs = _crosswalk_of(town, pose, direction)
    speed = float(pose[3])
    waits = crosswalk >= 0 and speed < 0.3
    guess = Actor(true.kind, true.size_wlh_m, true.colour)
    guess.walk = Walk(path, 1.3 if waits else speed, 0.0, kerbs_m=kerbs, crosswalk=crosswalk, bold=not waits)
    return guess, (PERSON_BACK_M, speed)


def _crosswalk_of(town: Town, pose: Array, direction: Array) -> tuple[int, tuple[float, float]]:
    """The crosswalk on which, or at whose kerb, somebody is who looks along it, and the kerbs on their way."""
    for number, item in enumerate(town.crosswalks):
        first, last = item.ends
        across = last - first
        length = float(np.hypot(*across))
        across = across / length
        at = float((pose[:2] - first) @ across)
        aside = float((pose[:2] - first) @ [-across[1], across[0]])
        facing = float(direction @ across)
        if abs(aside) < 2.2 and -2.0 < at < length + 2.0 and abs(facing) > 0.8:
            done = at if facing > 0 else length - at
            if done < length + 0.5:
                return number, (PERSON_BACK_M - done, PERSON_BACK_M - done + length)
    return -1, (-1.0, -1.0)


def frozen_signals(episode: Episode, time_s: float) -> Array:
    """Offsets with which all signals go on showing what they show. Yellow becomes red, all red the other road's green:
    that is the rule; when is not known."""
    out = np.zeros(len(episode.town.junctions))
    for number in range(len(out)):
        offset = float(episode.tracks.signals.offsets_s[number])
        shows = [int(signal_state(group, offset, time_s)) for group in (0, 1)]
        for group in (0, 1):
            if shows[group] == GREEN:
                out[number] = SLOT_S * group + 1.0
            elif shows[group] == YELLOW:
                out[number] = SLOT_S * group + GREEN_S + 0.2
        if shows == [RED, RED]:
            last = (time_s + offset) % (2 * SLOT_S) >= SLOT_S
            out[number] = SLOT_S * last + SLOT_S - 1.0
    return out
