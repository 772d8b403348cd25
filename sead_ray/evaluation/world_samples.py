"""What a planner could know at a key frame of the embedded world: of itself, or of everything; and what was driven.

Positions are in the ego frame of the key frame (x forward, y left), in metres. F = 6 future steps of 0.5 s.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.config import WorldConfig
from sead_ray.evaluation.world_foresight import after_the_signal, alone, drive_on
from sead_ray.evaluation.world_present import observe
from sead_ray.nuscenes.commands import TURN_OFFSET_M
from sead_ray.records import FUTURE_STEPS
from sead_ray.synthetic.episode import KEY_INTERVAL_S, Episode, drive
from sead_ray.synthetic.plan import ScenePlan, plan_world
from sead_ray.synthetic.rehearsal import compile_kernels
from sead_ray.synthetic.routes import STEP_M, Route
from sead_ray.synthetic.truth import measure

PAST_S = np.array([-2.0, -1.5, -1.0, -0.5])
PATH_M = np.array([2.5, 5, 7.5, 10, 12.5, 15, 20, 25, 30, 40])
REACH_M = 50.0
FAR_M = 200.0
_AHEAD_S = (1 + np.arange(FUTURE_STEPS)) * KEY_INTERVAL_S
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Of N frames: ego status (N, E), everything (N, A), the roll-out of the true present (N, F, 2), constant velocity
    (N, F, 2), and what was driven (N, F, 2); `clip` (N,) numbers the scenes."""

    status: Array
    everything: Array
    rollout: Array
    constant: Array
    driven: Array
    clip: NDArray[np.int64]

    @staticmethod
    def joined(parts: list[Samples]) -> Samples:
        names = ("status", "everything", "rollout", "constant", "driven", "clip")
        return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class SceneSamples:
    """The samples of one scene, its split, and whether the ego does more in it than drive straight on."""

    samples: Samples
    clip: int
    split: str
    manoeuvre: bool


def drive_world(world: WorldConfig, processes: int = 1) -> Iterator[SceneSamples]:
    """All scenes of a world, in order."""
    jobs = [(plan, world.seed, world.frames) for plan in plan_world(world)]
    if processes <= 1:
        yield from map(drive_samples, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, compile_kernels, (False,)) as pool:
        yield from pool.imap(drive_samples, jobs, chunksize=4)


def drive_samples(job: tuple[ScenePlan, int, int]) -> SceneSamples:
    """Drives a scene (its plan, the world's seed, key frames); runs in worker processes too."""
    plan, seed, frames = job
    episode = drive(plan.log.location, seed, plan.number, frames, plan.scenario)
    manoeuvre = measure(episode).ego_manoeuvre != "straight"
    return SceneSamples(samples_of(episode, plan.number), plan.number, plan.log.split, manoeuvre)


def samples_of(episode: Episode, clip: int) -> Samples:
    """One sample for each key frame that has six later ones."""
    rows = [_sample(episode, float(time)) for time in episode.times_s[: -FUTURE_STEPS or None]]
    columns = [np.stack(column) for column in zip(*rows)]
    return Samples(*columns, np.full(len(rows), clip))


def _sample(episode: Episode, time_s: float) -> tuple[Array, ...]:
    ahead = _AHEAD_S
    states = episode.tracks.driver_states(0, time_s + np.concatenate([PAST_S, [0.0], ahead]))
    now = states[len(PAST_S)]
    local = _to_ego(states[:, :2], now)
    past, driven = local[: len(PAST_S)], local[len(PAST_S) + 1 :]
    motion = episode.tracks.motion(0, np.array([time_s]))[0]
    before = episode.tracks.driver_states(0, np.array([time_s - 0.1]))[0]
    yaw_rate = (now[2] - before[2] + np.pi) % (2 * np.pi) - np.pi
    side = driven[-1, 1]
    command = np.array([side >= TURN_OFFSET_M, side <= -TURN_OFFSET_M, abs(side) < TURN_OFFSET_M], np.float64)
    status = np.concatenate([[now[3], motion[2], yaw_rate * 10], past.ravel(), command])
    constant = np.stack([now[3] * ahead, np.zeros(FUTURE_STEPS)], axis=1)
    known, rollout = _world_ahead(episode, time_s, now, motion)
    return status, np.concatenate([status, known]), rollout, constant, driven


def _to_ego(points: Array, now: Array) -> Array:
    delta = points - now[:2]
    cos, sin = np.cos(now[2]), np.sin(now[2])
    return np.stack([delta[:, 0] * cos + delta[:, 1] * sin, delta[:, 1] * cos - delta[:, 0] * sin], axis=1)


def _world_ahead(episode: Episode, time_s: float, now: Array, motion: Array) -> tuple[Array, Array]:
    """What the true map and agents say, as numbers, and the roll-out of the present. Among the numbers are the same
    roll-out without anybody else, and with the signals changed: what the MLP weighs against each other."""
    route, along = episode.staging.route, float(motion[0])
    places = np.clip(((along + PATH_M) / STEP_M).astype(int), 0, len(route.points) - 1)
    path = _to_ego(route.points[places], now) / PATH_M[:, None]
    limits = route.limits_mps[places]
    stop_m, signal = _next_stop(episode, along, time_s)
    crosswalk = next((at - along for at, _ in route.crosswalks if at > along), FAR_M)
    gap, pace, crossing, scene = _agents(episode, time_s, now, route, along)
    scene += _who_meets(episode, time_s, route, along, crosswalk)
    numbers = [motion[3], min(stop_m, 60.0), *signal, min(crosswalk, 60.0), min(gap, 60.0), pace, min(crossing, 60.0)]
    present = observe(episode, time_s)
    constant = np.stack([now[3] * _AHEAD_S, np.zeros(FUTURE_STEPS)], axis=1)
    plans = [_to_ego(drive_on(case), now) for case in (present, alone(present), after_the_signal(present))]
    changes = [(plan - constant).ravel() for plan in plans]
    return np.concatenate([path.ravel(), limits, numbers, scene, *changes]), plans[0]


def _next_stop(episode: Episode, along: float, time_s: float) -> tuple[float, list[float]]:
    """Metres to the next stop line, and whether red, yellow, or a right of way holds there."""
    for at, junction, arm in episode.staging.route.stops:
        distance = float(at - along - 2.0)
        if distance > -1:
            node = episode.town.junctions[int(junction)]
            if node.kind != "signal":
                return distance, [0.0, 0.0, float(node.kind == "roundabout" or not node.main[int(arm)])]
            shown = episode.tracks.signals.state(int(junction), int(arm), time_s)
            return distance, [float(shown == "red"), float(shown == "yellow"), 0.0]
    return FAR_M, [0.0, 0.0, 0.0]


def _agents(
    episode: Episode, time_s: float, now: Array, route: Route, along: float
) -> tuple[float, float, float, list[float]]:
    """The gap to the leader on the path and its speed, how far away somebody comes across it; then, as plain numbers,
    whether the leader stands for good and how far aside, and the nearest oncoming vehicle."""
    poses = episode.tracks.poses(time_s)
    first = int(along / STEP_M)
    path = route.points[first : first + int(60 / STEP_M)]
    yaws = route.headings[first : first + len(path)]
    gap, pace, crossing = FAR_M, 0.0, FAR_M
    leader, oncoming = [0.0, 0.0], [60.0, 0.0]
    for actor, pose in zip(episode.tracks.actors[1:], poses[1:]):
        local = _to_ego(pose[None, :2], now)[0]
        away = float(np.hypot(*local))
        if not actor.shown or away > REACH_M:
            continue
        width, length, _ = actor.size_wlh_m
        at = int(np.hypot(*(path - pose[:2]).T).argmin())
        if local[0] < 0 or at >= len(path) - 1:
            continue
        left = float((pose[:2] - path[at]) @ [-np.sin(yaws[at]), np.cos(yaws[at])])
        bend = pose[2] - yaws[at]
        reach = abs(np.sin(bend)) * length / 2 + abs(np.cos(bend)) * width / 2 + 1.1
        free = at * STEP_M - 2.0 - abs(np.cos(bend)) * length / 2
        inward = -np.sign(left) * pose[3] * np.sin(bend)
        if abs(left) < reach and free < gap:
            gap, pace = max(free, 0.0), max(pose[3] * float(np.cos(bend)), 0.0)
            leader = [float(bool(actor.state)), left]
        elif inward > 0.3 and (abs(left) - reach) / inward < free / max(now[3], 2.0) + 1.0:
            crossing = min(crossing, max(free - 1.0, 0.0))
        if np.cos(bend) < -0.5 and abs(left) < 5 and free < oncoming[0] and pose[3] > 0.5:
            oncoming = [free, float(pose[3])]
    return gap, pace, crossing, [*leader, *oncoming]


def _who_meets(episode: Episode, time_s: float, route: Route, along: float, crosswalk_m: float) -> list[float]:
    """People at the next crosswalk (how many stand, how many walk), and the two vehicles nearest to the next junction
    with the speeds at which they come towards it."""
    poses = episode.tracks.poses(time_s)[1:]
    actors = episode.tracks.actors[1:]
    people = np.array([actor.walk is not None and actor.shown for actor in actors], bool)
    vehicles = np.array([actor.route is not None and actor.shown for actor in actors], bool)
    out = [0.0, 0.0]
    if crosswalk_m < 50:
        spot = route.points[min(int((along + crosswalk_m) / STEP_M), len(route.points) - 1)]
        near = people & (np.hypot(*(poses[:, :2] - spot).T) < 9.0)
        out = [float((near & (poses[:, 3] < 0.3)).sum()), float((near & (poses[:, 3] >= 0.3)).sum())]
    number = next((int(junction) for at, junction, _ in route.stops if at > along - 2.0), None)
    met = np.tile([60.0, 0.0], (2, 1))
    if number is not None and vehicles.any():
        delta = episode.town.junctions[number].centre - poses[vehicles, :2]
        away = np.hypot(*delta.T)
        towards = (delta[:, 0] * np.cos(poses[vehicles, 2]) + delta[:, 1] * np.sin(poses[vehicles, 2])) / (away + 1e-6)
        for place, index in enumerate(np.argsort(away)[:2]):
            met[place] = min(away[index], 60.0), poses[vehicles, 3][index] * towards[index]
    return [*out, *met.ravel().tolist()]
