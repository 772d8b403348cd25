"""One scene as it is driven: cast, simulation, and the window of time that is recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose, box_corners_bev, quaternion_from_heading
from sead_ray.synthetic.cast import cast_scene
from sead_ray.synthetic.rig import EGO_CENTRE_M
from sead_ray.synthetic.town import Town, build_town
from sead_ray.synthetic.traffic import Tracks, simulate

WARM_UP_S, CHOICE_S = 2.0, 12.0
KEY_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Episode:
    """Tracks, the times of the key frames in them, and words for what happens."""

    town: Town
    tracks: Tracks
    times_s: NDArray[np.float64]
    words: tuple[str, ...]

    def ego_pose(self, time_s: float) -> Pose:
        x, y, heading, _ = self.tracks.driver_states(0, np.array([time_s]))[0]
        return Pose(
            (float(x - EGO_CENTRE_M * np.cos(heading)), float(y - EGO_CENTRE_M * np.sin(heading)), 0.0),
            quaternion_from_heading(float(heading)),
        )


def drive(location: str, seed: int, scene: int, frames: int) -> Episode:
    """Depends on its arguments alone. Draws again where the ego would touch something or stand all the time."""
    town = build_town(location, seed)
    duration = (frames - 1) * KEY_INTERVAL_S
    horizon = WARM_UP_S + CHOICE_S + duration + 1.0
    episode = None
    for attempt in range(8):
        rng = np.random.default_rng([seed, 11, scene, attempt])
        tracks = simulate(town, cast_scene(town, rng, horizon), horizon, rng)
        start = _choose_window(tracks, duration, rng)
        jitter = rng.uniform(-4e-4, 4e-4, frames)
        times = start + np.arange(frames) * KEY_INTERVAL_S + jitter
        clear = _without_overlaps(tracks, times)
        episode = Episode(town, tracks, times, _words(tracks, times))
        states = tracks.driver_states(0, times)
        if clear and states[:, 3].max() > 1.5:
            break
    assert episode is not None
    return episode


def _choose_window(tracks: Tracks, duration_s: float, rng: np.random.Generator) -> float:
    """A start in the simulated time: usually where the ego's motion changes or somebody is near."""
    starts = np.arange(WARM_UP_S, WARM_UP_S + CHOICE_S, 0.5)
    if rng.random() < 0.35:
        return float(rng.choice(starts))
    times = np.arange(0, WARM_UP_S + CHOICE_S + duration_s, 0.5)
    states = tracks.driver_states(0, times)
    velocity = states[:, 3:] * np.stack([np.cos(states[:, 2]), np.sin(states[:, 2])], axis=1)
    error = np.zeros(len(times))
    for ahead in (2, 4, 6):  # 1, 2, 3 s
        future = states[ahead:, :2] - states[:-ahead, :2] - velocity[:-ahead] * 0.5 * ahead
        error[:-ahead] += np.linalg.norm(future, axis=1) / 3
    near = np.array([_nearest(tracks, time) < 5.0 for time in times])
    value = np.minimum(error, 5.0) + 0.8 * near + 0.5 * np.minimum(states[:, 3], 2.0)
    width = int(duration_s / 0.5) + 1
    scores = np.array([value[round(start / 0.5) : round(start / 0.5) + width].mean() for start in starts])
    chance = np.exp((scores - scores.max()) * 3.0)
    return float(rng.choice(starts, p=chance / chance.sum()))


def _nearest(tracks: Tracks, time_s: float) -> float:
    poses = tracks.poses(time_s)
    return float(np.hypot(*(poses[1:, :2] - poses[0, :2]).T).min()) if len(poses) > 1 else np.inf


def _without_overlaps(tracks: Tracks, times: NDArray[np.float64]) -> bool:
    """Takes away who would stand in somebody else; false where that somebody is the ego."""
    sizes = np.array([actor.size_wlh_m for actor in tracks.actors])
    gone: set[int] = set()
    for time in np.arange(times[0] - 0.1, times[-1] + 0.1, 0.125):
        poses = tracks.poses(time)
        for first, second in overlapping(poses, sizes):
            if first in gone or second in gone:
                continue
            if first == 0:
                return False
            gone.add(max(first, second, key=lambda number: (tracks.actors[number].path is not None, number)))
    for number in gone:
        tracks.actors[number].body = None
    return True


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
    people = sum(actor.path is not None for actor in near)
    words += ["many peds"] if people > 5 else ["peds"] if people else []
    for kind, word in (("bus", "bus"), ("truck", "truck"), ("bicycle", "cyclist"), ("cone", "cones")):
        words += [word] if any(actor.kind == kind for actor in near) else []
    words += ["parked cars"] if sum(actor.tags.get("state") == "parked" for actor in near) > 3 else []
    return tuple(words)
