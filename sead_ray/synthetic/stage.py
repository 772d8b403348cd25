"""A scene at an instant: every box and face of scenery, road users and signals in the global frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic.bodies import DARK, box_quads, shadow_quad
from sead_ray.synthetic.render import Faces
from sead_ray.synthetic.scenery import Scenery, rotate_z
from sead_ray.synthetic.traffic import Signals, Tracks

REACH_M = 110.0
_LAMPS = {"red": (0.55, (255, 40, 30)), "yellow": (0.0, (255, 200, 40)), "green": (-0.55, (50, 240, 110))}


def boxes_at(tracks: Tracks, poses: NDArray, scenery: Scenery, eye: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """(n, 7) boxes near the eye, (n,) owners (actor number, -1 scenery), (n,) brightness. The ego is left out."""
    near = np.hypot(*(scenery.boxes[:, :2] - eye[:2]).T) < 90
    boxes = [scenery.boxes[near]]
    owners = [np.full(near.sum(), -1)]
    bright = [np.full(near.sum(), 90.0)]
    for number, actor in enumerate(tracks.actors):
        if actor.body is None or np.hypot(*(poses[number, :2] - eye[:2])) > 90:
            continue
        parts, yaw = actor.body.boxes, poses[number, 2]
        centres = rotate_z(parts[:, :3], yaw) + np.array([*poses[number, :2], 0.0])
        boxes.append(np.concatenate([centres, parts[:, 3:], np.full((len(parts), 1), yaw)], axis=1))
        owners.append(np.full(len(parts), number))
        bright.append(np.full(len(parts), float(actor.body.colours.mean())))
    return np.concatenate(boxes), np.concatenate(owners), np.concatenate(bright)


def faces_at(
    tracks: Tracks, poses: NDArray, braking: NDArray, scenery: Scenery, time_s: float, eye: NDArray, facing_rad: float
) -> Faces:
    """Faces near the eye. Owners: actor number, -1 for scenery."""
    near = _in_sight(scenery.quads[:, 0, :2], eye, facing_rad)
    sight = _in_sight(poses[:, :2], eye, facing_rad)
    quads, colours = [scenery.quads[near]], [scenery.colours[near]]
    glow, owner = [scenery.glow[near]], [np.full(near.sum(), -1)]
    for number, actor in enumerate(tracks.actors):
        body = actor.body
        if body is None or not sight[number]:
            continue
        place = np.array([*poses[number, :2], 0.0])
        mine = np.concatenate([body.quads, shadow_quad(actor.size_wlh_m)[None]])
        quads.append((rotate_z(mine.astype(np.float64), poses[number, 2]) + place).astype(np.float32))
        lights = body.glow.copy()
        paint = body.colours.copy()
        parked = actor.tags.get("state") == "parked"
        tail = lights == 2
        paint[tail] *= 1.0 if braking[number] else 0.55
        lights[tail] = 0 if parked else 1 if braking[number] else 3  # 3: shines at night only
        lights[body.glow == 1] = 0 if parked else 3
        colours.append(np.concatenate([paint, np.array([DARK], np.float32)]))
        glow.append(np.append(lights, 0))
        owner.append(np.append(np.full(len(body.quads), number), -1))
    lamps, paint = _signal_faces(scenery, tracks.signals, time_s, eye)
    quads.append(lamps)
    colours.append(paint)
    glow.append(np.ones(len(lamps), np.int8))
    owner.append(np.full(len(lamps), -1))
    return Faces(
        np.concatenate(quads).astype(np.float32),
        np.concatenate(colours).astype(np.float32),
        np.concatenate(glow).astype(np.int8),
        np.concatenate(owner).astype(np.int32),
    )


def _in_sight(points: NDArray, eye: NDArray, facing_rad: float) -> NDArray[np.bool_]:
    """A generous cut: within reach and not behind a camera of up to 120 degrees that looks along the bearing."""
    delta = points - eye[:2]
    away = np.hypot(delta[:, 0], delta[:, 1])
    return (away < REACH_M) & (delta @ [np.cos(facing_rad), np.sin(facing_rad)] > 0.45 * away - 25.0)


def _signal_faces(scenery: Scenery, signals: Signals, time_s: float, eye: NDArray) -> tuple[NDArray, NDArray]:
    """The lit lamp of every signal head near the eye."""
    quads, colours = [np.zeros((0, 4, 3))], []
    for (junction, phase), (centres, yaw) in scenery.heads.items():
        if np.hypot(*(centres[0, :2] - eye[:2])) > REACH_M:
            continue
        shift, colour = _LAMPS[signals.state(junction, phase, time_s)]
        for centre in centres:
            face = box_quads([0.18, 0, shift, 0.02, 0.72, 0.62])[:1]
            quads.append(rotate_z(face, yaw) + centre)
            colours.append(colour)
    return np.concatenate(quads), np.array(colours, np.float32).reshape(-1, 3)
