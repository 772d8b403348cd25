"""What really happens in a scene, measured from its tracks. Written beside the data set; no stage reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic.episode import Episode
from sead_ray.synthetic.occlusion import hidden_shares
from sead_ray.synthetic.routes import STEP_M

SAMPLE_S = 0.25
NEAR_M, AHEAD_M, EMERGING_M = 25.0, 35.0, 18.0
HARD_BRAKE_MPS2 = -4.2
TTC_MOST_S = 10.0
HIDDEN = 0.6
_SPOTS = np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """Hidden descriptors of a scene.

    Attributes:
        scenario, group: what was staged, and whether that is simple, rare or a control.
        interaction_density: mean number of moving road users within 25 m.
        min_ttc_s: least time to collision if everybody went on as they do; 10 where nothing comes nearer.
        crossing_agents: road users who cross the ego's way at most 35 m ahead of it.
        ego_manoeuvre: lane_change, overtake, left, right, stop, start or straight, the first that applies.
        hard_braking_events: times that the ego brakes with more than 4.2 m/s^2.
        occlusion: mean share of the road users within 40 m that are hidden to 60 % or more.
        emerging_agents: road users who come out of hiding within 18 m ahead and then cross the ego's way.
        rare: names of the rare classes that the descriptors put the scene in.
    """

    scenario: str
    group: str
    interaction_density: float
    min_ttc_s: float
    crossing_agents: int
    ego_manoeuvre: str
    hard_braking_events: int
    occlusion: float
    emerging_agents: int
    mean_speed_mps: float
    rare: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        row = {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return row | {"rare": list(self.rare)}


def measure(episode: Episode) -> Truth:
    tracks = episode.tracks
    times = np.arange(episode.times_s[0], episode.times_s[-1] + 1e-6, SAMPLE_S)
    poses = np.stack([tracks.poses(float(time)) for time in times])  # (T, A, 4)
    shown = np.array([actor.shown for actor in tracks.actors])
    shown[0] = False
    sizes = np.array([actor.size_wlh_m for actor in tracks.actors])
    motion = tracks.motion(0, np.arange(episode.times_s[0], episode.times_s[-1], 0.1))
    away = np.hypot(*(poses[..., :2] - poses[:, :1, :2]).transpose(2, 0, 1))
    moving = shown & (poses[..., 3] > 0.4)
    density = float((moving & (away < NEAR_M)).sum(1).mean())
    ttc = _least_ttc(poses, sizes, shown & (away < 60))
    along = tracks.motion(0, times)[:, 0]
    crossing = _crossing(episode, poses, along, shown)
    hidden = np.stack([hidden_shares(frame, sizes, shown) for frame in poses[::2]])
    seen_near = shown & (away[::2] < 40)
    occlusion = float((hidden >= HIDDEN)[seen_near].mean()) if seen_near.any() else 0.0
    emerging = _emerging(poses[::2], hidden, crossing)
    brakes = _runs(motion[:, 2] < HARD_BRAKE_MPS2)
    manoeuvre = _manoeuvre(poses[:, 0], motion)
    values = (density, ttc, len(crossing), manoeuvre, brakes, occlusion, emerging)
    kind = episode.scenario
    return Truth(kind.name, kind.group, *values, float(motion[:, 1].mean()), _rare(*values))


def _rare(density, ttc, crossing, manoeuvre, brakes, occlusion, emerging) -> tuple[str, ...]:
    return tuple(
        name
        for name, holds in {
            "dense_interaction": density >= 2.9,
            "small_ttc": ttc < 1.1,
            "many_crossing": crossing >= 2,
            "hard_braking": brakes > 0,
            "overtaking": manoeuvre == "overtake",
            "lane_change": manoeuvre == "lane_change",
            "emerging": emerging > 0,
        }.items()
        if holds
    )


def _least_ttc(poses: Array, sizes: Array, near: NDArray[np.bool_]) -> float:
    """By circles along the bodies, everybody going straight on."""
    radius = np.minimum(sizes[:, 0], sizes[:, 1]) / 2
    direction = np.stack([np.cos(poses[..., 2]), np.sin(poses[..., 2])], -1)
    reach = np.maximum(sizes[:, 1] - sizes[:, 0], 0)[None, :, None, None] * _SPOTS[:, None]
    centres = poses[:, :, None, :2] + reach * direction[:, :, None]  # (T, A, C, 2)
    speed = poses[..., 3:] * direction
    delta = centres[:, :, :, None] - centres[:, :1, None]  # (T, A, C of theirs, C of the ego's, 2)
    closing = (speed - speed[:, :1])[:, :, None, None]
    a, b = (closing**2).sum(-1), (delta * closing).sum(-1)
    c = (delta**2).sum(-1) - (radius + radius[0])[None, :, None, None] ** 2
    root = b * b - a * c
    time = np.where((root > 0) & (b < 0), (-b - np.sqrt(np.maximum(root, 0))) / np.maximum(a, 1e-6), TTC_MOST_S)
    time = np.where(near[:, :, None, None], np.clip(time, 0, TTC_MOST_S), TTC_MOST_S)
    return float(time.min())


def _crossing(episode: Episode, poses: Array, along: Array, shown: NDArray[np.bool_]) -> list[int]:
    """Actors whose track cuts the ego's way at an angle, at most 35 m ahead of it."""
    route = episode.staging.route
    first, last = int(along[0] / STEP_M), int((along[-1] + AHEAD_M) / STEP_M) + 1
    way = route.points[first:last]
    out = []
    for number in np.flatnonzero(shown & (np.ptp(poses[..., :2], axis=0).max(-1) > 1.0)):
        track = poses[:, number, :2]
        if np.hypot(*(track - poses[:, 0, :2]).T).min() > AHEAD_M:
            continue
        hit = _cuts(way, track)
        if hit is None or abs(np.sin(route.headings[first + hit[0]] - poses[hit[1], number, 2])) < 0.5:
            continue
        ahead = (first + hit[0]) * STEP_M - along[hit[1]]
        if 0 < ahead < AHEAD_M:
            out.append(int(number))
    return out


def _cuts(first: Array, second: Array) -> tuple[int, int] | None:
    """Steps of two tracks between which they intersect."""
    p, r = first[:-1, None], np.diff(first, axis=0)[:, None]
    q, s = second[None, :-1], np.diff(second, axis=0)[None]
    cross = r[..., 0] * s[..., 1] - r[..., 1] * s[..., 0]
    delta = q - p
    safe = np.where(np.abs(cross) < 1e-9, np.inf, cross)
    t = (delta[..., 0] * s[..., 1] - delta[..., 1] * s[..., 0]) / safe
    u = (delta[..., 0] * r[..., 1] - delta[..., 1] * r[..., 0]) / safe
    found = np.argwhere((t >= 0) & (t <= 1) & (u >= 0) & (u <= 1) & (np.abs(cross) > 1e-9))
    return (int(found[0, 0]), int(found[0, 1])) if len(found) else None


def _emerging(poses: Array, hidden: Array, crossing: list[int]) -> int:
    """Those who were hidden within 18 m ahead half a second before they were seen, and cross."""
    count = 0
    heading = poses[:, 0, 2]
    for number in crossing:
        delta = poses[:, number, :2] - poses[:, 0, :2]
        ahead = delta[:, 0] * np.cos(heading) + delta[:, 1] * np.sin(heading)
        near = (ahead > 0) & (np.hypot(*delta.T) < EMERGING_M)
        came_out = (hidden[:-1, number] >= HIDDEN) & (hidden[1:, number] < HIDDEN) & near[1:]
        count += bool(came_out.any())
    return count


def _runs(holds: NDArray[np.bool_]) -> int:
    return int((holds & ~np.concatenate([[False], holds[:-1]])).sum())


def _manoeuvre(ego: Array, motion: Array) -> str:
    turned = np.unwrap(ego[:, 2])
    change = turned[-1] - turned[0]
    sharp = np.abs(np.diff(turned)).max() / SAMPLE_S > 0.15
    aside = np.ptp(motion[:, 3])
    if aside > 1.4:
        return "overtake" if aside < 3.0 else "lane_change"
    if abs(change) > 0.7 and sharp:
        return "left" if change > 0 else "right"
    still = motion[:, 1] < 0.3
    if still.any():
        return "start" if still[0] and not still[-1] else "stop"
    return "straight"
