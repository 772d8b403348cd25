"""What stands still in a town: areas, buildings, trees, lamps, signal heads, and the painted ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union
from shapely.prepared import prep

from sead_ray.synthetic import lines
from sead_ray.synthetic.bodies import box_quads
from sead_ray.synthetic.town import LANE_M, PARKING_M, SIDEWALK_M, SIZE_M, STOP_LINE_M, Town, arm_end, build_town

CELL_M = 0.125  # of the painted ground
LEVELS = 6
GRASS, WALK, ROAD, KERB = (84, 112, 60), (152, 148, 140), (70, 72, 76), (184, 182, 176)
WHITE, YELLOW = (222, 222, 216), (214, 168, 44)
_FACADES = ((168, 120, 96), (190, 178, 156), (128, 134, 146), (146, 96, 84), (206, 200, 190), (110, 118, 112))


@dataclass(frozen=True)
class Scenery:
    """Static boxes (n, 7): centre x, y, z, length, width, height, yaw; faces (q, 4, 3), (q, 3) colours, (q,) glow.

    `heads`: per (junction, phase) the centres of its signal heads and the yaw from which traffic comes.
    """

    boxes: NDArray[np.float64]
    quads: NDArray[np.float32]
    colours: NDArray[np.float32]
    glow: NDArray[np.int8]
    lamps: NDArray[np.float64]
    heads: dict[tuple[int, int], tuple[NDArray[np.float64], float]]


@lru_cache(maxsize=4)
def drivable_area(town: Town) -> BaseGeometry:
    """Union of the carriageways and the junctions."""
    roads = [Polygon(lines.ribbon(road.line, road.half_m, -road.half_m)).buffer(0) for road in town.roads]
    return unary_union([area.buffer(0.05) for area in roads + [Polygon(node.outline) for node in town.junctions]])


@lru_cache(maxsize=4)
def walkway_area(town: Town) -> BaseGeometry:
    """A strip along every kerb."""
    area = drivable_area(town)
    return area.buffer(SIDEWALK_M, join_style="round").difference(area)


def polygons_of(area: BaseGeometry) -> list[Polygon]:
    if isinstance(area, MultiPolygon):
        return list(area.geoms)
    return [area] if isinstance(area, Polygon) else []


@lru_cache(maxsize=2)
def build_scenery(location: str, seed: int) -> Scenery:
    town = build_town(location, seed)
    rng = np.random.default_rng([seed, 8, len(location)])
    heads = _signal_heads(town)
    lamps = _lamp_spots(town)
    boxes, paint = [], []  # paint: walls, roof, glow
    for box in _buildings(town, rng):
        boxes.append(box)
        wall = np.array(_FACADES[rng.integers(len(_FACADES))]) * rng.uniform(0.85, 1.1)
        paint.append((wall, wall * 0.7, 0))
    for x, y in _tree_spots(town, rng):
        height = rng.uniform(4.5, 7.0)
        boxes += [
            np.array([x, y, 1.2, 0.3, 0.3, 2.4, 0.0]),
            np.array([x, y, 2.2 + height / 4, 2.6, 2.6, height / 2, 0.6]),
        ]
        green = np.array((52, 86, 40)) * rng.uniform(0.8, 1.25)
        paint += [(np.array((84, 62, 44)), np.array((84, 62, 44)), 0), (green, green * 1.2, 0)]
    for x, y in lamps:
        boxes += [np.array([x, y, 2.8, 0.16, 0.16, 5.6, 0.0]), np.array([x, y, 5.7, 0.7, 0.3, 0.2, 0.0])]
        paint += [
            (np.array((92, 94, 96)), np.array((92, 94, 96)), 0),
            (np.array((255, 235, 190)), np.array((90, 90, 90)), 3),
        ]
    for centres, yaw in heads.values():
        for x, y, z in centres:
            boxes.append(np.array([x, y, z, 0.3, 0.8, 1.9, yaw]))
            paint.append((np.array((20, 20, 20)), np.array((30, 30, 30)), 0))
            if z < 4.2:
                boxes.append(np.array([x, y, (z - 0.95) / 2, 0.16, 0.16, z - 0.95, yaw]))
                paint.append((np.array((70, 72, 74)), np.array((70, 72, 74)), 0))
    quads, colours, glow = _paint_static(boxes, paint, rng)
    return Scenery(np.array(boxes), quads, colours, glow, lamps, heads)


def _paint_static(boxes, paint, rng: np.random.Generator):
    quads, colours, glow = [], [], []
    for box, (wall, roof, shine) in zip(boxes, paint):
        faces = rotate_z(box_quads([0, 0, 0, *box[3:6]]), box[6]) + box[:3]
        quads.append(faces)
        colours.append([wall, wall, wall, wall, roof])
        glow.append([shine] * 5)
        if min(box[3], box[4]) > 6:  # a building: rows of windows on its walls
            bands = _windows(box, rng)
            quads.append(bands)
            colours.append([(70, 84, 98)] * len(bands))
            glow.append([0] * len(bands))
    return (
        np.concatenate(quads).astype(np.float32),
        np.concatenate([np.asarray(item, np.float32).reshape(-1, 3) for item in colours]),
        np.concatenate(glow).astype(np.int8),
    )


def _windows(box: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Glass bands around a building."""
    height = box[5]
    bands = []
    for bottom in np.arange(1.2, height - 1.5, 3.4):
        shape = [0, 0, bottom + 0.8 - height / 2, box[3] + 0.08, box[4] + 0.08, 1.6]
        bands.append(box_quads(shape)[:4] * [0.94, 0.94, 1.0] + _outward(box))
    return rotate_z(np.concatenate(bands), box[6]) + box[:3]


def _outward(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 1, 3) moves that bring the shrunken bands back in front of their walls."""
    along, across = 0.03 * box[3] + 0.05, 0.03 * box[4] + 0.05
    return np.array([[along, 0, 0], [-along, 0, 0], [0, across, 0], [0, -across, 0]])[:, None]


def rotate_z(points: NDArray[np.float64], yaw_rad: float) -> NDArray[np.float64]:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


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
                width, depth, height = rng.uniform(10, 22), rng.uniform(9, 15), rng.uniform(5, 16)
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


@lru_cache(maxsize=1)
def painted_ground(location: str, seed: int) -> tuple[NDArray[np.uint32], ...]:
    """Mip levels of the ground seen from above: R, G, B and lamp light packed in 32 bits; row 0 is y = 0."""
    town = build_town(location, seed)
    cells = int(SIZE_M / CELL_M)
    image = np.empty((cells, cells, 3), np.uint8)
    image[:] = GRASS
    _fill(image, walkway_area(town), WALK)
    _fill(image, drivable_area(town), ROAD)
    for polygon in polygons_of(drivable_area(town)):
        for ring in (polygon.exterior, *polygon.interiors):
            _stroke(image, np.array(ring.coords), KERB, 0.3)
    _markings(image, town)
    rng = np.random.default_rng([seed, 9])
    coarse = cv2.resize(rng.integers(0, 18, (cells // 16, cells // 16), dtype=np.uint8), (cells, cells))
    fine = rng.integers(0, 12, (cells, cells), dtype=np.uint8)
    image = cv2.subtract(image, np.repeat((coarse + fine)[..., None], 3, axis=2))
    light = _lamp_light(build_scenery(location, seed).lamps, cells)
    levels = []
    for _ in range(LEVELS):
        levels.append(np.dstack([image, light]).view(np.uint32)[..., 0].copy())
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image, light = cv2.resize(image, half, interpolation=cv2.INTER_AREA), cv2.resize(light, half)
    return tuple(levels)


def _lamp_light(lamps: NDArray[np.float64], cells: int) -> NDArray[np.uint8]:
    """Soft discs of light below the street lamps."""
    small = np.zeros((cells // 8, cells // 8), np.float32)
    for x, y in lamps:
        column, row = int(x / CELL_M / 8), int(y / CELL_M / 8)
        if 0 <= row < small.shape[0] and 0 <= column < small.shape[1]:
            small[row, column] = 1
    small = cv2.GaussianBlur(small, (0, 0), 5.0) * (2 * np.pi * 25)
    return np.asarray(cv2.resize((np.clip(small, 0, 1) * 255).astype(np.uint8), (cells, cells)), np.uint8)


def _pixels(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(np.asarray(points)[:, :2] / CELL_M * 16 - 8).astype(np.int32)


def _fill(image: NDArray[np.uint8], area: BaseGeometry, colour: tuple[int, int, int]) -> None:
    for polygon in polygons_of(area):
        rings = [_pixels(np.array(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
        cv2.fillPoly(image, rings, colour, shift=4)


def _stroke(image: NDArray[np.uint8], line: NDArray[np.float64], colour: tuple[int, int, int], width_m: float) -> None:
    cv2.polylines(image, [_pixels(line)], False, colour, max(1, round(width_m / CELL_M)), shift=4)


def _dashes(image: NDArray[np.uint8], line: NDArray[np.float64], colour: tuple[int, int, int], on_m: float) -> None:
    total = lines.length(line)
    for start in np.arange(0, total - on_m, 2.5 * on_m):
        _stroke(image, lines.cut(line, start, start + on_m), colour, 0.2)


def _markings(image: NDArray[np.uint8], town: Town) -> None:
    middle = YELLOW if town.drives_right else WHITE
    for number, road in enumerate(town.roads):
        inner = lines.cut(road.line, STOP_LINE_M, road.length_m - STOP_LINE_M)
        for left in (0.16, -0.16):
            _stroke(image, lines.offset(inner, left), middle, 0.16)
        for rank in range(1, road.lanes):
            for side in (1, -1):
                _dashes(image, lines.offset(inner, side * rank * LANE_M), WHITE, 3.0)
        for side in (1, -1):
            _stroke(image, lines.offset(inner, side * road.lanes * LANE_M), WHITE, 0.14)
            if road.parking:
                for at in np.arange(8.0, road.length_m - 16, 6.2):
                    spot = lines.cut(road.line, at, at + 1.0)
                    low, high = road.lanes * LANE_M, road.lanes * LANE_M + PARKING_M
                    bar = [lines.offset(spot, side * low)[0], lines.offset(spot, side * high)[0]]
                    _stroke(image, np.array(bar), (170, 170, 166), 0.12)
        for lane in town.lanes:
            if lane.road == number:
                stop = lines.cut(lane.line, lines.length(lane.line) - STOP_LINE_M, lines.length(lane.line) - 4.7)
                _fill(image, Polygon(lines.ribbon(stop, 1.6, -1.6)), WHITE)
    for crossing in town.crosswalks:
        _zebra(image, crossing.ends)


def _zebra(image: NDArray[np.uint8], ends: NDArray[np.float64]) -> None:
    across = ends[1] - ends[0]
    width = float(np.linalg.norm(across))
    across = across / width
    along = np.array([-across[1], across[0]])
    for start in np.arange(0.4, width - 0.6, 1.2):
        a, b = ends[0] + across * start, ends[0] + across * (start + 0.6)
        _fill(image, Polygon([a + 1.4 * along, b + 1.4 * along, b - 1.4 * along, a - 1.4 * along]), WHITE)
