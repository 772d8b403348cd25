"""What road users look like: each kind is a set of boxes (for rays and pixels) with painted faces.

A body lives in its own frame: x forward, y left, z up, origin on the ground below the box centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic.raster import DISC, PLAIN

Colour = tuple[int, int, int]  # RGB

MARGIN_M = 0.02  # parts stay inside the annotated box, so that returns on a face count as inside
DARK, GLASS, WHITE, RED, AMBER = (22, 22, 24), (38, 48, 60), (245, 240, 215), (205, 25, 20), (235, 150, 30)


@dataclass(frozen=True)
class Kind:
    """A kind of road user. Sizes are means of width, length, height in m, and their relative spread."""

    category: str
    size_wlh_m: tuple[float, float, float]
    spread: float
    colours: tuple[Colour, ...]


_PAINT = ((190, 30, 30), (235, 235, 232), (28, 30, 34), (120, 125, 130), (30, 70, 150), (200, 205, 210), (150, 120, 60))
_CLOTH = ((200, 60, 50), (40, 70, 150), (230, 200, 60), (60, 130, 70), (225, 225, 225), (150, 60, 140), (235, 130, 40))
KINDS = {
    "car": Kind("vehicle.car", (1.92, 4.60, 1.68), 0.06, _PAINT),
    "truck": Kind("vehicle.truck", (2.45, 6.9, 2.85), 0.06, ((225, 225, 220), (60, 90, 150), (190, 150, 50))),
    "bus": Kind("vehicle.bus.rigid", (2.75, 10.6, 3.35), 0.04, ((225, 90, 30), (235, 235, 235), (40, 120, 90))),
    "construction": Kind("vehicle.construction", (2.5, 5.9, 2.9), 0.06, ((240, 180, 20),)),
    "trailer": Kind("vehicle.trailer", (2.4, 8.5, 3.2), 0.05, ((205, 205, 210), (140, 60, 50))),
    "motorcycle": Kind("vehicle.motorcycle", (0.80, 2.1, 1.60), 0.05, ((170, 30, 30), (40, 40, 45), (30, 70, 150))),
    "bicycle": Kind("vehicle.bicycle", (0.62, 1.75, 1.62), 0.05, _CLOTH),
    "pedestrian": Kind("human.pedestrian.adult", (0.66, 0.70, 1.75), 0.06, _CLOTH),
    "child": Kind("human.pedestrian.child", (0.50, 0.52, 1.30), 0.06, _CLOTH),
    "worker": Kind("human.pedestrian.construction_worker", (0.66, 0.70, 1.76), 0.04, ((240, 140, 20),)),
    "cone": Kind("movable_object.trafficcone", (0.42, 0.42, 0.85), 0.05, ((245, 95, 15),)),
    "barrier": Kind("movable_object.barrier", (1.9, 0.55, 1.0), 0.05, ((240, 240, 240),)),
}
HUMANS = ("pedestrian", "child", "worker")
CYCLES = ("motorcycle", "bicycle")


@dataclass(frozen=True)
class Body:
    """Boxes and painted quads of one road user.

    Attributes:
        boxes: (b, 6) centre x, y, z and length, width, height.
        quads: (q, 4, 3) corners, counter-clockwise seen from outside.
        colours: (q, 3) RGB 0..255. glow: (q,) 1 where the face gives light, 2 where only while braking.
        material: (q,) as in `raster`.
    """

    boxes: NDArray[np.float64]
    quads: NDArray[np.float32]
    colours: NDArray[np.float32]
    glow: NDArray[np.int8]
    material: NDArray[np.int8]


_FACES = np.array([[1, 2, 6, 5], [3, 0, 4, 7], [2, 3, 7, 6], [0, 1, 5, 4], [4, 5, 6, 7]])  # front back left right top
_CORNERS = np.array([[x, y, z] for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]) / 2.0


def box_quads(box: NDArray[np.float64] | list[float]) -> NDArray[np.float64]:
    """(5, 4, 3) faces of a box (6,): front, back, left, right, top."""
    centre, size = np.asarray(box[:3]), np.asarray(box[3:])
    return (centre + _CORNERS * size)[_FACES]


def rotate_z(points: NDArray[np.float64], yaw_rad: float) -> NDArray[np.float64]:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


class _Builder:
    """Collects the parts of one body; the only mutable thing here."""

    def __init__(self, size_lwh: tuple[float, float, float]) -> None:
        self.size = np.asarray(size_lwh) - 2 * MARGIN_M
        self.boxes: list[NDArray[np.float64]] = []
        self.quads: list[NDArray[np.float64]] = []
        self.colours: list[Colour] = []
        self.glow: list[int] = []
        self.material: list[int] = []

    def span(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> NDArray[np.float64]:
        """A box from fractions: x, y in -0.5..0.5 of length and width, z in 0..1 of the height."""
        low, high = np.array([x[0], y[0], z[0]]) * self.size, np.array([x[1], y[1], z[1]]) * self.size
        centre = (low + high) / 2 + [0, 0, MARGIN_M]
        return np.concatenate([centre, high - low])

    def part(self, x, y, z, colour: Colour, sides: Colour | None = None) -> None:
        """A solid box; `sides` paints its four walls, `colour` its top."""
        box = self.span(x, y, z)
        self.boxes.append(box)
        for face, quad in enumerate(box_quads(box)):
            self.paint(quad, colour if face == 4 or sides is None else sides)

    def tapered(self, x, y, z, top_x, top_y, colour: Colour, sides: Colour) -> None:
        """Like `part`, but with a smaller roof."""
        low, high = box_quads(self.span(x, y, (z[0], z[0])))[4], box_quads(self.span(top_x, top_y, (z[1], z[1])))[4]
        self.boxes.append(self.span(top_x, top_y, z))
        for first, second in ((1, 2), (3, 0), (2, 3), (0, 1)):
            self.paint(np.array([low[first], low[second], high[second], high[first]]), sides)
        self.paint(high, colour)

    def disc(self, x, z, side: int, colour: Colour, out_m: float = 0.012) -> None:
        """A wheel on one side (1 left, -1 right)."""
        y = (0.5, 0.5) if side > 0 else (-0.5, -0.5)
        quad = box_quads(self.span(x, y, z))[2 if side > 0 else 3] + np.array([0, side * out_m, 0])
        self.paint(quad, colour, material=DISC)

    def decal(self, x, y, z, face: int, colour: Colour, glow: int = 0) -> None:
        """One painted face, 1 cm in front of the solid below it."""
        outward = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])[face] * 0.01
        self.paint(box_quads(self.span(x, y, z))[face] + outward, colour, glow)

    def paint(self, quad: NDArray[np.float64], colour: Colour, glow: int = 0, material: int = PLAIN) -> None:
        self.quads.append(quad)
        self.colours.append(colour)
        self.glow.append(glow)
        self.material.append(material)

    def build(self) -> Body:
        return Body(
            np.array(self.boxes),
            np.array(self.quads, np.float32),
            np.array(self.colours, np.float32),
            np.array(self.glow, np.int8),
            np.array(self.material, np.int8),
        )


def build_body(kind: str, size_wlh_m: tuple[float, float, float], colour: Colour) -> Body:
    """The body of one road user of a kind, in its box."""
    width, length, height = size_wlh_m
    builder = _Builder((length, width, height))
    if kind in ("car", "truck", "bus", "construction", "trailer"):
        _vehicle(builder, kind, colour)
    elif kind in CYCLES:
        _cycle(builder, kind, colour)
    elif kind in HUMANS:
        _human(builder, colour)
    elif kind == "cone":
        builder.part((-0.5, 0.5), (-0.5, 0.5), (0, 0.08), DARK)
        builder.part((-0.32, 0.32), (-0.32, 0.32), (0.08, 0.5), colour)
        builder.part((-0.2, 0.2), (-0.2, 0.2), (0.5, 0.72), WHITE)
        builder.part((-0.12, 0.12), (-0.12, 0.12), (0.72, 1.0), colour)
    else:
        for index in range(4):
            y = (-0.5 + index / 4, -0.25 + index / 4)
            builder.part((-0.3, 0.3), y, (0, 1), WHITE if index % 2 else RED)
    return builder.build()


def _vehicle(builder: _Builder, kind: str, colour: Colour) -> None:
    full = (-0.5, 0.5)
    if kind == "car":
        builder.part(full, full, (0.16, 0.56), colour)
        builder.tapered((-0.47, 0.27), (-0.47, 0.47), (0.56, 1.0), (-0.34, 0.08), (-0.36, 0.36), colour, GLASS)
        builder.part((-0.5, 0.5), (-0.44, 0.44), (0.1, 0.18), DARK)
    elif kind == "bus":
        builder.part(full, full, (0.08, 1.0), colour)
        for face in (2, 3):
            builder.decal((-0.47, 0.47), full, (0.5, 0.82), face, GLASS)
        builder.decal(full, (-0.45, 0.45), (0.4, 0.85), 0, GLASS)
        builder.decal(full, (-0.4, 0.4), (0.55, 0.82), 1, GLASS)
    elif kind == "truck":
        builder.part((0.24, 0.5), (-0.47, 0.47), (0.12, 0.8), colour)
        builder.part((-0.5, 0.22), full, (0.2, 1.0), (215, 215, 210) if colour != (225, 225, 220) else (150, 160, 175))
        builder.decal((0.24, 0.5), (-0.42, 0.42), (0.48, 0.74), 0, GLASS)
        for face in (2, 3):
            builder.decal((0.32, 0.46), (-0.47, 0.47), (0.5, 0.74), face, GLASS)
    elif kind == "construction":
        builder.part((-0.5, 0.35), full, (0.1, 0.5), colour)
        builder.part((-0.3, 0.1), (-0.35, 0.35), (0.5, 1.0), colour, GLASS)
        builder.part((0.35, 0.5), full, (0.05, 0.35), (90, 90, 90))
    else:
        builder.part(full, full, (0.25, 1.0), colour)
        builder.part((-0.4, 0.4), (-0.3, 0.3), (0.1, 0.25), DARK)
    _wheels_and_lights(builder, kind)


def _wheels_and_lights(builder: _Builder, kind: str) -> None:
    high = {"car": 0.40, "truck": 0.32, "bus": 0.27, "construction": 0.42, "trailer": 0.28}[kind]
    length, height = builder.size[0], builder.size[2]
    radius = high * height / 2 / length
    for middle in (0.31, -0.31) if kind != "truck" else (0.36, -0.18, -0.36):
        for side in (1, -1):
            builder.disc((middle - radius, middle + radius), (0, high), side, DARK)
            hub = (middle - radius * 0.5, middle + radius * 0.5)
            builder.disc(hub, (high * 0.25, high * 0.75), side, (130, 132, 135), 0.02)
    low, high = (0.38, 0.5) if kind == "car" else (0.22, 0.32)
    for side in ((0.3, 0.48), (-0.48, -0.3)):
        if kind != "trailer":
            builder.decal((-0.5, 0.5), side, (low, high), 0, WHITE, 1)
        builder.decal((-0.5, 0.5), side, (low, high + 0.03), 1, RED, 2)


def _cycle(builder: _Builder, kind: str, colour: Colour) -> None:
    for wheel in ((-0.5, -0.14), (0.14, 0.5)):
        builder.boxes.append(builder.span(wheel, (-0.12, 0.12), (0, 0.4)))
        middle = builder.span(wheel, (0, 0), (0, 0.4))
        for face, rim in ((2, 0.02), (3, -0.02)):
            builder.paint(box_quads(middle)[face] + np.array([0, rim, 0]), DARK, material=DISC)
        builder.part((wheel[0] + 0.05, wheel[1] - 0.05), (-0.07, 0.07), (0.02, 0.38), DARK)
    frame = colour if kind == "motorcycle" else (90, 90, 95)
    builder.part((-0.25, 0.3), (-0.22, 0.22), (0.25, 0.52), frame)
    builder.part((0.2, 0.27), (-0.5, 0.5), (0.55, 0.6), DARK)
    builder.part((-0.18, 0.05), (-0.4, 0.4), (0.52, 0.84), colour if kind == "bicycle" else (60, 60, 65))
    builder.part((-0.1, 0.06), (-0.2, 0.2), (0.84, 1.0), (235, 225, 90) if kind == "motorcycle" else (210, 165, 135))
    builder.decal((-0.5, -0.3), (-0.12, 0.12), (0.3, 0.38), 1, RED, 2)


def _human(builder: _Builder, colour: Colour) -> None:
    builder.part((-0.25, 0.05), (-0.3, -0.04), (0, 0.46), (45, 48, 70))
    builder.part((-0.05, 0.25), (0.04, 0.3), (0, 0.46), (45, 48, 70))
    builder.part((-0.25, 0.25), (-0.48, 0.48), (0.46, 0.84), colour)
    builder.part((-0.17, 0.17), (-0.2, 0.2), (0.84, 1.0), (205, 160, 130))
    builder.decal((-0.17, 0.17), (-0.2, 0.2), (0.9, 1.0), 1, (50, 35, 25))


def shadow_quads(boxes: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """(b * 6, 4, 3) ground patches that together are the shadows of boxes (b, 6); `shift`: x, y per metre of height,
    in the body's frame."""
    out = []
    for x, y, z, length, width, height in boxes:
        foot = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * [length, width] + [x, y]
        low, high = foot + shift * max(z - height / 2, 0.0), foot + shift * (z + height / 2)
        patches = [low, high]
        patches += [np.stack([low[k], low[k - 1], high[k - 1], high[k]]) for k in range(4)]
        out += patches
    flat = np.array(out).reshape(-1, 4, 2)
    return np.concatenate([flat, np.full((*flat.shape[:2], 1), 0.01)], axis=2)
