"""A scene at an instant: every box and face of scenery, road users and signals in the global frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic.bodies import box_quads, rotate_z, shadow_quads
from sead_ray.synthetic.raster import DISC
from sead_ray.synthetic.render import Faces
from sead_ray.synthetic.scenery import Scenery
from sead_ray.synthetic.traffic import Signals, Tracks
from sead_ray.synthetic.weather import SUN, Weather

REACH_M = 120.0
LIDAR_REACH_M = 90.0
_LAMPS = {"red": (0.65, (255, 40, 30)), "yellow": (0.0, (255, 200, 40)), "green": (-0.65, (50, 240, 110))}
_POOL = np.array([[0.3, -0.9], [9.0, -2.6], [9.0, 2.6], [0.3, 0.9]])  # light ahead of a car's front
_VEHICLES = ("car", "truck", "bus", "construction", "motorcycle")


def shown_actors(tracks: Tracks) -> list[int]:
    """Numbers of those who can be seen: all but the ego, and whoever was taken away."""
    return [number for number, actor in enumerate(tracks.actors) if number > 0 and actor.shown]


def boxes_at(tracks: Tracks, poses: NDArray, scenery: Scenery, eye: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """(n, 7) boxes near the eye, (n,) owners (actor number, -1 scenery), (n,) brightness. The ego is left out."""
    near = np.hypot(*(scenery.boxes[:, :2] - eye[:2]).T) < LIDAR_REACH_M
    boxes = [scenery.boxes[near]]
    owners = [np.full(near.sum(), -1)]
    bright = [np.full(near.sum(), 90.0)]
    for number in shown_actors(tracks):
        if np.hypot(*(poses[number, :2] - eye[:2])) > LIDAR_REACH_M:
            continue
        body = tracks.actors[number].body
        parts, yaw = body.boxes, poses[number, 2]
        centres = rotate_z(parts[:, :3], yaw) + np.array([*poses[number, :2], 0.0])
        boxes.append(np.concatenate([centres, parts[:, 3:], np.full((len(parts), 1), yaw)], axis=1))
        owners.append(np.full(len(parts), number))
        bright.append(np.full(len(parts), float(body.colours.mean())))
    return np.concatenate(boxes), np.concatenate(owners), np.concatenate(bright)


def faces_at(
    tracks: Tracks, poses: NDArray, scenery: Scenery, time_s: float, eye: NDArray, facing_rad: float, weather: Weather
) -> Faces:
    """Faces near the eye that a camera looking along the bearing may see. Owners: actor number, -1 for scenery."""
    near = _in_sight(scenery.quads[:, 0, :2], eye, facing_rad)
    sight = _in_sight(poses[:, :2], eye, facing_rad)
    braking = tracks.is_braking(time_s)
    count = int(near.sum())
    parts = [
        (
            scenery.quads[near],
            scenery.colours[near],
            scenery.glow[near],
            np.full(count, -1),
            scenery.material[near],
            scenery.seed[near],
        ),
        _signal_faces(scenery, tracks.signals, time_s, eye),
    ]
    shadows, pools = [np.zeros((0, 4, 3))], [np.zeros((0, 4, 3))]
    for number in shown_actors(tracks):
        if not sight[number]:
            continue
        actor, yaw = tracks.actors[number], float(poses[number, 2])
        place = np.array([*poses[number, :2], 0.0])
        body = actor.body
        lights, paint = body.glow.copy(), body.colours.copy()
        off = actor.state == "parked"
        tail = lights == 2
        paint[tail] *= 1.0 if braking[number] else 0.55
        lights[tail] = 0 if off else 1 if braking[number] else 3  # 3: shines at night only
        lights[body.glow == 1] = 0 if off else 3
        quads = rotate_z(body.quads.astype(np.float64), yaw) + place
        owner = np.full(len(quads), number)
        parts.append((quads, paint, lights, owner, body.material, np.zeros(len(quads), np.int32)))
        shadows.append(rotate_z(shadow_quads(body.boxes, _shadow_shift(weather, yaw)), yaw) + place)
        if not off and actor.kind in _VEHICLES and weather.night:
            front = np.column_stack([_POOL + np.array([actor.size_wlh_m[1] / 2, 0]), np.full(4, 0.01)])
            pools.append(rotate_z(front[None], yaw) + place)
    kinds = (np.float32, np.float32, np.int8, np.int32, np.int8, np.int32)
    columns = [np.concatenate([part[k] for part in parts]).astype(kind) for k, kind in enumerate(kinds)]
    return Faces(*columns, _patches(shadows, 255 if weather.sunny else 170), _patches(pools, 130))


def _shadow_shift(weather: Weather, yaw: float) -> NDArray[np.float64]:
    """Per metre of height, in the body's frame; below a grey sky only the ground close to a body is dark."""
    shift = -SUN[:2] / SUN[2] if weather.sunny else np.zeros(2)
    return rotate_z(np.array([[*shift, 0.0]]), -yaw)[0, :2]


def _patches(quads: list[NDArray], strength: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    joined = np.concatenate(quads).astype(np.float32)
    return joined, np.full(len(joined), strength, np.uint8)


def _in_sight(points: NDArray, eye: NDArray, facing_rad: float) -> NDArray[np.bool_]:
    """A generous cut: within reach and not behind a camera of up to 120 degrees that looks along the bearing."""
    delta = points - eye[:2]
    away = np.hypot(delta[:, 0], delta[:, 1])
    return (away < REACH_M) & (delta @ [np.cos(facing_rad), np.sin(facing_rad)] > 0.45 * away - 25.0)


def _signal_faces(scenery: Scenery, signals: Signals, time_s: float, eye: NDArray) -> tuple:
    """The lit lens of every signal head near the eye, as columns of `Faces`."""
    quads, colours = [np.zeros((0, 4, 3))], []
    for (junction, arm), (centres, yaw) in scenery.heads.items():
        if np.hypot(*(centres[0, :2] - eye[:2])) > REACH_M:
            continue
        shift, colour = _LAMPS[signals.state(junction, arm, time_s)]
        for centre in centres:
            face = box_quads([0.2, 0, shift, 0.02, 0.74, 0.66])[:1]
            quads.append(rotate_z(face, yaw) + centre)
            colours.append(colour)
    count = len(colours)
    return (
        np.concatenate(quads),
        np.array(colours, np.float32).reshape(-1, 3),
        np.ones(count),
        np.full(count, -1),
        np.full(count, DISC),
        np.zeros(count),
    )
