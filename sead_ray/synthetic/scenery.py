"""What stands still in a town: buildings, trees, lamps, signal heads, signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Point, Polygon
from shapely.prepared import prep

from sead_ray.synthetic import lines
from sead_ray.synthetic.areas import drivable_area
from sead_ray.synthetic.bodies import box_quads, rotate_z
from sead_ray.synthetic.network import LANE_M, SIDEWALK_M, Junction, Town, arm_end
from sead_ray.synthetic.raster import DISC, FACADE, FOLIAGE, PLAIN
from sead_ray.synthetic.town import build_town

FACADES = (
    (168, 120, 96),
    (190, 178, 156),
    (138, 142, 150),
    (150, 98, 84),
    (206, 200, 190),
    (118, 124, 128),
    (196, 164, 120),
    (170, 176, 180),
)
GREENS = ((62, 98, 44), (78, 108, 50), (54, 86, 52), (104, 112, 48))
POLE, BARK, BLACK, SIGN_RED, LAMP = (94, 96, 98), (84, 64, 46), (24, 24, 26), (190, 30, 34), (255, 235, 190)


@dataclass(frozen=True)
class Scenery:
    """Static boxes (n, 7): centre x, y, z, length, width, height, yaw; and what is painted, as in `render.Faces`.

    `heads`: per (junction, arm) the centres of its signal heads and the yaw from which traffic comes.
    """

    boxes: NDArray[np.float64]
    quads: NDArray[np.float32]
    colours: NDArray[np.float32]
    glow: NDArray[np.int8]
    material: NDArray[np.int8]
    seed: NDArray[np.int32]
    lamps: NDArray[np.float64]
    heads: dict[tuple[int, int], tuple[NDArray[np.float64], float]]


@dataclass
class _Collector:
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    quads: list[NDArray[np.float64]] = field(default_factory=list)
    colours: list[tuple] = field(default_factory=list)
    marks: list[tuple[int, int, int]] = field(default_factory=list)  # glow, material, seed

    def box(self, box, walls, roof, material: int = PLAIN, seed: int = 0, glow: int = 0, solid: bool = True) -> None:
        box = np.asarray(box, np.float64)
        if solid:
            self.boxes.append(box)
        faces = rotate_z(box_quads([0, 0, 0, *box[3:6]]), box[6]) + box[:3]
        for face, quad in enumerate(faces):
            top = face == 4
            self.face(quad, roof if top else walls, PLAIN if top else material, seed + face, glow)

    def face(self, quad, colour, material: int = PLAIN, seed: int = 0, glow: int = 0) -> None:
        self.quads.append(np.asarray(quad, np.float64))
        self.colours.append(tuple(colour))
        self.marks.append((glow, material, seed))


@lru_cache(maxsize=2)
def build_scenery(location: str, seed: int) -> Scenery:
    town = build_town(location, seed)
    rng = np.random.default_rng([seed, 8, len(location)])
    heads, lamps = _signal_heads(town), _lamp_spots(town)
    out = _Collector()
    for box in _buildings(town, rng):
        wall = np.array(FACADES[rng.integers(len(FACADES))]) * rng.uniform(0.85, 1.1)
        out.box(box, wall, wall * 0.7, FACADE, int(rng.integers(1, 10**6)))
    for x, y in _tree_spots(town, rng):
        _tree(out, x, y, rng)
    for x, y in lamps:
        out.box([x, y, 2.8, 0.16, 0.16, 5.6, 0.0], POLE, POLE)
        out.box([x, y, 5.7, 0.7, 0.3, 0.2, 0.0], LAMP, POLE, glow=3)
    for centres, yaw in heads.values():
        for x, y, z in centres:
            _signal(out, x, y, z, yaw)
    for junction in town.junctions:
        _signs(out, town, junction)
    marks = np.array(out.marks)
    return Scenery(
        np.array(out.boxes),
        np.array(out.quads, np.float32),
        np.array(out.colours, np.float32),
        marks[:, 0].astype(np.int8),
        marks[:, 1].astype(np.int8),
        marks[:, 2].astype(np.int32),
        lamps,
        heads,
    )


def _tree(out: _Collector, x: float, y: float, rng: np.random.Generator) -> None:
    """A trunk, and a crown of three upright faces and a level one, all ragged."""
    crown, wide = rng.uniform(2.8, 4.6), rng.uniform(2.6, 4.2)
    low = rng.uniform(1.7, 2.3)
    green = np.array(GREENS[rng.integers(len(GREENS))]) * rng.uniform(0.85, 1.2)
    out.box([x, y, (low + 0.8) / 2, 0.26, 0.26, low + 0.8, 0.0], BARK, BARK)
    out.boxes.append(np.array([x, y, low + crown / 2, wide * 0.7, wide * 0.7, crown * 0.85, 0.6]))
    turn, seed = rng.uniform(0, np.pi), int(rng.integers(1, 10**6))
    for index in range(3):
        angle = turn + index * np.pi / 3
        reach = np.array([np.cos(angle), np.sin(angle), 0]) * wide / 2
        foot, top = np.array([x, y, low]), np.array([x, y, low + crown])
        out.face([foot - reach, foot + reach, top + reach, top - reach], green, FOLIAGE, seed + index)
    level = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * wide / 2 + [x, y, low + 0.45 * crown]
    out.face(level, green * 0.8, FOLIAGE, seed + 3)


def _signal(out: _Collector, x: float, y: float, z: float, yaw: float) -> None:
    """A dark housing with three unlit lenses; the lit one is drawn per picture."""
    out.box([x, y, z, 0.3, 0.8, 2.1, yaw], BLACK, (36, 36, 38))
    for shift, colour in ((0.65, (70, 16, 14)), (0.0, (74, 56, 14)), (-0.65, (14, 60, 30))):
        face = box_quads([0.17, 0, shift, 0.02, 0.6, 0.6])[0]
        out.face(rotate_z(face, yaw) + np.array([x, y, z]), colour, DISC)
    if z < 4.2:
        out.box([x, y, (z - 1.05) / 2, 0.16, 0.16, z - 1.05, yaw], POLE, POLE)


def _signs(out: _Collector, town: Town, junction: Junction) -> None:
    """A red disc where one has to give way."""
    if junction.kind == "signal":
        return
    for arm, (road_number, at_end) in enumerate(junction.arms):
        if junction.kind == "priority" and junction.main[arm]:
            continue
        road = town.roads[road_number]
        point, inward = arm_end(road, at_end)
        right = np.array([inward[1], -inward[0]]) * (1 if town.drives_right else -1)
        x, y = point + right * (road.half_m + 0.7) - inward * 5.0
        yaw = float(np.arctan2(-inward[1], -inward[0]))
        out.box([x, y, 1.2, 0.1, 0.1, 2.4, yaw], POLE, POLE)
        for size, colour, shift in ((0.85, (235, 235, 235), 0.07), (0.76, SIGN_RED, 0.09)):
            face = box_quads([shift, 0, 0, 0.02, size, size])[0]
            out.face(rotate_z(face, yaw) + np.array([x, y, 2.55]), colour, DISC)


def _buildings(town: Town, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Boxes along the roads, clear of every road and of each other."""
    blocked = prep(drivable_area(town).buffer(SIDEWALK_M + 1.5))
    taken: list[Polygon] = []
    out = []
    for road in town.roads:
        tangents = lines.headings(road.line)
        for side in (1, -1):
            at = rng.uniform(0, 10)
            while at < road.length_m:
                width, depth, height = (
                    rng.uniform(10, 22),
                    rng.uniform(9, 15),
                    rng.uniform(5, 16) * rng.choice([1.0, 1.0, 1.0, 1.6]),
                )
                yaw = float(tangents[min(int(at), len(tangents) - 1)])
                point = road.line[min(int(at), len(road.line) - 1)]
                left = side * (road.half_m + SIDEWALK_M + 2.0 + rng.uniform(0, 4) + depth / 2)
                x, y = point + left * np.array([-np.sin(yaw), np.cos(yaw)])
                shape = np.array([x, y, height / 2, width, depth, height, yaw])
                area = Polygon(rotate_z(box_quads([0, 0, 0, width, depth, 1])[4], yaw)[:, :2] + np.array([x, y]))
                if not blocked.intersects(area) and not any(area.intersects(other) for other in taken):
                    taken.append(area)
                    out.append(shape)
                at += width + rng.uniform(3, 16)
    return out


def _roadside(town: Town, out_m: float, step_m: float, start_m: float) -> NDArray[np.float64]:
    """(n, 2) points beside the roads, none of them on a carriageway."""
    free = prep(drivable_area(town).buffer(0.6))
    points = []
    for road in town.roads:
        for side in (1, -1):
            line = lines.offset(road.line, side * (road.half_m + out_m))
            along = np.arange(start_m + (side > 0) * step_m / 2, lines.length(line) - start_m, step_m)
            points += list(lines.points_at(line, along)) if len(along) else []
    kept = [point for point in points if not free.intersects(Point(float(point[0]), float(point[1])))]
    return np.array(kept).reshape(-1, 2)


def _lamp_spots(town: Town) -> NDArray[np.float64]:
    return _roadside(town, 2.9, 36.0, 12.0)


def _tree_spots(town: Town, rng: np.random.Generator) -> NDArray[np.float64]:
    spots = _roadside(town, SIDEWALK_M + 1.0, 19.0, 6.0)
    return spots[rng.random(len(spots)) < 0.45]


def _signal_heads(town: Town) -> dict[tuple[int, int], tuple[NDArray[np.float64], float]]:
    """One head on a pole at the kerb, and one hanging over the far side of the junction."""
    out = {}
    for number, junction in enumerate(town.junctions):
        if junction.kind != "signal":
            continue
        for phase, (road_number, at_end) in enumerate(junction.arms):
            road = town.roads[road_number]
            point, inward = arm_end(road, at_end)
            right = np.array([inward[1], -inward[0]]) * (1 if town.drives_right else -1)
            pole = point + right * (road.half_m + 0.8) - inward * 0.6
            across = 2 * float(np.linalg.norm(junction.centre - point)) + 1.0
            hanging = point + inward * across + right * LANE_M * road.lanes / 2
            yaw = float(np.arctan2(-inward[1], -inward[0]))  # the face looks towards the traffic
            out[number, phase] = (np.array([[*pole, 3.4], [*hanging, 5.6]]), yaw)
    return out
