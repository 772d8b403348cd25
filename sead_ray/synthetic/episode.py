"""One scene as it is driven: cast, simulation, and the window of time that is recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose, box_corners_bev, quaternion_from_heading
from sead_ray.synthetic.actors import Actor
from sead_ray.synthetic.cast import cast_scene
from sead_ray.synthetic.ego_route import Staging
from sead_ray.synthetic.kernels import refresh_kernels
from sead_ray.synthetic.rig import EGO_CENTRE_M
from sead_ray.synthetic.routes import STEP_M
from sead_ray.synthetic.scenarios import BY_NAME, Scenario
from sead_ray.synthetic.town import Town, build_town
from sead_ray.synthetic.traffic import Tracks, simulate
from sead_ray.synthetic.yielding import GREEN_S, SLOT_S

WARM_UP_S = 3.0
KEY_INTERVAL_S = 0.5
ATTEMPTS = 8
CASTS = 6
NEAR_M = 75.0  # overlaps farther from the ego than this are not recorded


@dataclass(frozen=True)
class Episode:
    """Tracks, the times of the key frames in them, and words for what happens."""

    town: Town
    scenario: Scenario
    staging: Staging
    tracks: Tracks
    times_s: NDArray[np.float64]
    words: tuple[str, ...]

    def ego_pose(self, time_s: float) -> Pose:
        x, y, heading, _ = self.tracks.driver_states(0, np.array([time_s]))[0]
        return Pose(
            (float(x - EGO_CENTRE_M * np.cos(heading)), float(y - EGO_CENTRE_M * np.sin(heading)), 0.0),
            quaternion_from_heading(float(heading)),
        )


def drive(location: str, seed: int, scene: int, frames: int, scenario: str = "cruise") -> Episode:
    """Depends on its arguments alone. Draws again where the ego would touch something or stand all the time."""
    refresh_kernels()
    town = build_town(location, seed)
    duration = (frames - 1) * KEY_INTERVAL_S
    horizon = WARM_UP_S + duration + 1.0
    kind = BY_NAME[scenario]
    episode = None
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, 11, scene, attempt])
        event = WARM_UP_S + float(rng.uniform(0.3, 0.6)) * min(duration, 14.0)
        actors, staging = cast_scene(town, kind, event, horizon, rng)
        offsets = _signal_offsets(town, kind, staging, rng)
        times = WARM_UP_S + np.arange(frames) * KEY_INTERVAL_S + rng.uniform(-4e-4, 4e-4, frames)
        tracks, clear = _without_overlaps(town, actors, offsets, horizon, times)
        episode = Episode(town, kind, staging, tracks, times, _words(tracks, times))
        if clear and tracks.motion(0, times)[:, 1].max() > 1.5:
            break
    assert episode is not None
    return episode


def _signal_offsets(town: Town, scenario: Scenario, staging: Staging, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random phases, but for the scenario's own junction: green or red when the ego arrives."""
    offsets = rng.uniform(0, 2 * SLOT_S, len(town.junctions))
    if scenario.vehicles == 0:
        _all_green(town, staging, offsets)
    if scenario.junction != "signal":
        return offsets
    lane = town.lanes[staging.lane]
    number = lane.junctions[1]
    junction = town.junctions[number]
    group = junction.groups[junction.arms.index(lane.arm)]
    red = scenario.event == "red"
    inside = rng.uniform(GREEN_S - 1, 2 * SLOT_S - 4) if red else rng.uniform(0.5, GREEN_S - 2.5)
    offsets[number] = inside + SLOT_S * group - staging.event_s
    return offsets


def _all_green(town: Town, staging: Staging, offsets: NDArray[np.float64]) -> None:
    """Where nobody else drives, nothing shall stop the ego: green at each junction when it arrives."""
    route = staging.route
    seconds = np.cumsum(STEP_M / np.maximum(route.limits_mps * staging.ego.manner.eager * 0.97, 1.0))
    seconds -= seconds[min(int(staging.ego.start_m / STEP_M), len(seconds) - 1)]
    for at, junction, arm in route.stops[::-1]:  # a junction met twice: as at the first time
        group = town.junctions[int(junction)].groups[int(arm)]
        arrival = seconds[min(int(at / STEP_M), len(seconds) - 1)]
        offsets[int(junction)] = 0.4 * GREEN_S + SLOT_S * group - arrival


def _without_overlaps(
    town: Town, actors: list[Actor], offsets: NDArray[np.float64], horizon: float, times: NDArray[np.float64]
) -> tuple[Tracks, bool]:
    """Takes away who would stand in somebody else and simulates anew, so that nobody yields to who is not there; false
    where that somebody is the ego."""
    for _ in range(CASTS):
        tracks = simulate(town, actors, offsets, horizon)
        gone = _intruders(tracks, times)
        if not gone or 0 in gone:
            return tracks, not gone
        actors = [actor for number, actor in enumerate(actors) if number not in gone]
    for number in gone:  # still in somebody's way after so many casts: not shown
        tracks.actors[number].shown = False
    return tracks, True


def _intruders(tracks: Tracks, times: NDArray[np.float64]) -> set[int]:
    """Of each two actors that touch the one to take away, preferably on foot; the ego where it touches anybody."""
    sizes = np.array([actor.size_wlh_m for actor in tracks.actors])
    gone: set[int] = set()
    for time in np.arange(times[0] - 0.1, times[-1] + 0.1, 0.2):
        poses = tracks.poses(time)
        near = np.flatnonzero(np.hypot(*(poses[:, :2] - poses[0, :2]).T) < NEAR_M)
        for a, b in overlapping(poses[near], sizes[near]):
            first, second = int(near[a]), int(near[b])
            if first == 0:
                return {0}
            if first not in gone and second not in gone:
                gone.add(max(first, second, key=lambda number: (tracks.actors[number].walk is not None, number)))
    return gone


def overlapping(
    poses: NDArray[np.float64], sizes_wlh: NDArray[np.float64], margin_m: float = 0.05
) -> list[tuple[int, int]]:
    """Pairs of boxes (x, y, heading; w, l, h) that come closer than the margin, by separating axes."""
    reach = np.hypot(sizes_wlh[:, 0], sizes_wlh[:, 1]) / 2 + margin_m
    away = np.hypot(poses[:, None, 0] - poses[None, :, 0], poses[:, None, 1] - poses[None, :, 1])
    pairs = np.argwhere(np.triu(away < reach[:, None] + reach[None, :], 1))
    out = []
    for first, second in pairs:
        shapes = [
            box_corners_bev(poses[n, :2], sizes_wlh[n, 1] + margin_m, sizes_wlh[n, 0] + margin_m, float(poses[n, 2]))
            for n in (first, second)
        ]
        axes = np.array(
            [
                [f(poses[n, 2]), g(poses[n, 2])]
                for n in (first, second)
                for f, g in ((np.cos, np.sin), (lambda a: -np.sin(a), np.cos))
            ]
        )
        a, b = shapes[0] @ axes.T, shapes[1] @ axes.T
        if ((a.max(0) > b.min(0)) & (b.max(0) > a.min(0))).all():
            out.append((int(first), int(second)))
    return out


def _words(tracks: Tracks, times: NDArray[np.float64]) -> tuple[str, ...]:
    """What a person would note of the scene."""
    states = tracks.driver_states(0, np.arange(times[0], times[-1], 0.1))
    turn = np.unwrap(states[:, 2])
    change = turn[-1] - turn[0]
    words = ["turn left" if change > 0.6 else "turn right" if change < -0.6 else "go straight"]
    if (states[:, 3] < 0.3).mean() > 0.25:
        words.append("wait")
    poses = tracks.poses(float(times.mean()))
    near = [actor for actor, pose in zip(tracks.actors, poses) if np.hypot(*(pose[:2] - poses[0, :2])) < 30]
    people = sum(actor.walk is not None for actor in near)
    words += ["many peds"] if people > 5 else ["peds"] if people else []
    for kind, word in (("bus", "bus"), ("truck", "truck"), ("bicycle", "cyclist"), ("cone", "cones")):
        words += [word] if any(actor.kind == kind for actor in near) else []
    words += ["parked cars"] if sum(actor.state == "parked" for actor in near) > 3 else []
    return tuple(words)
