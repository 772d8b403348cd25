"""The ground seen from above: painted once for a town, with mip levels; lamp light and static shadows beside it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from sead_ray.synthetic import lines
from sead_ray.synthetic.areas import drivable_area, polygons_of, walkway_area
from sead_ray.synthetic.network import LANE_M, PARKING_M, SIZE_M, STOP_LINE_M, Town
from sead_ray.synthetic.scenery import Scenery, build_scenery
from sead_ray.synthetic.shade import Floor
from sead_ray.synthetic.town import build_town
from sead_ray.synthetic.weather import SUN

CELL_M = 0.125  # of the painted ground
COARSE_M = 0.25  # of lamp light and shadows
LEVELS = 6
GRASS, WALK, ROAD, KERB = (98, 122, 66), (160, 155, 146), (104, 105, 107), (196, 194, 188)
GUTTER = (88, 88, 90)
WHITE, YELLOW = (222, 222, 216), (214, 168, 44)


@lru_cache(maxsize=1)
def painted_ground(location: str, seed: int) -> Floor:
    """See `shade.Floor`; R, G, B are packed in 32 bits; row 0 is y = 0."""
    town = build_town(location, seed)
    cells = int(SIZE_M / CELL_M)
    image = np.empty((cells, cells, 3), np.uint8)
    image[:] = GRASS
    _fill(image, walkway_area(town), WALK)
    _fill(image, drivable_area(town), ROAD)
    for polygon in polygons_of(drivable_area(town)):
        for ring in (polygon.exterior, *polygon.interiors):
            _stroke(image, np.array(ring.coords), GUTTER, 0.7)
            _stroke(image, np.array(ring.coords), KERB, 0.3)
    for junction in town.junctions:
        if junction.island is not None:
            _stroke(image, junction.island, WHITE, 0.2, True)
    _markings(image, town)
    image = _weathered(image, np.random.default_rng([seed, 9]))
    levels = []
    for _ in range(LEVELS):
        levels.append(np.dstack([image, np.zeros(image.shape[:2], np.uint8)]).view(np.uint32)[..., 0])
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    scenery = build_scenery(location, seed)
    sides = np.array([len(plane) for plane in levels])
    starts = np.concatenate([[0], np.cumsum(sides**2)[:-1]])
    texels = np.concatenate([plane.ravel() for plane in levels])
    return Floor(texels, starts, sides, CELL_M, _lamp_light(scenery.lamps), _static_shadows(scenery), COARSE_M)


def _weathered(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Patches, stains and grain."""
    cells = len(image)
    out = image
    for size, strength in ((64, 12), (16, 14), (4, 8)):
        rough = rng.integers(0, strength, (cells // size, cells // size), dtype=np.uint8)
        smooth = cv2.resize(rough, (cells, cells), interpolation=cv2.INTER_LINEAR)
        out = cv2.subtract(out, np.repeat(smooth[..., None], 3, axis=2))
    fine = rng.integers(0, 12, (cells, cells), dtype=np.uint8)
    return np.asarray(cv2.subtract(out, np.repeat(fine[..., None], 3, axis=2)), np.uint8)


def _lamp_light(lamps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Soft discs of light below the street lamps."""
    cells = int(SIZE_M / COARSE_M)
    small = np.zeros((cells // 4, cells // 4), np.float32)
    for x, y in lamps:
        column, row = int(x / COARSE_M / 4), int(y / COARSE_M / 4)
        if 0 <= row < small.shape[0] and 0 <= column < small.shape[1]:
            small[row, column] = 1
    small = cv2.GaussianBlur(small, (0, 0), 5.0) * (2 * np.pi * 25)
    return np.asarray(cv2.resize((np.clip(small, 0, 1) * 255).astype(np.uint8), (cells, cells)), np.uint8)


def _static_shadows(scenery: Scenery) -> NDArray[np.uint8]:
    """What buildings, trees and poles keep from the sun."""
    cells = int(SIZE_M / COARSE_M)
    out = np.zeros((cells, cells), np.uint8)
    shift = -SUN[:2] / SUN[2]
    for x, y, z, length, width, height, yaw in scenery.boxes:
        c, s = np.cos(yaw), np.sin(yaw)
        foot = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2 * [length, width]
        foot = foot @ np.array([[c, s], [-s, c]]) + [x, y]
        ends = [foot + shift * max(z - height / 2, 0.0), foot + shift * (z + height / 2)]
        hull = cv2.convexHull((np.concatenate(ends) / COARSE_M).astype(np.float32))
        cv2.fillConvexPoly(out, np.round(hull * 16).astype(np.int32), (255,), shift=4)
    return np.asarray(cv2.blur(out, (3, 3)), np.uint8)


def _pixels(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(np.asarray(points)[:, :2] / CELL_M * 16 - 8).astype(np.int32)


def _fill(image: NDArray[np.uint8], area: BaseGeometry, colour: tuple[int, int, int]) -> None:
    for polygon in polygons_of(area):
        rings = [_pixels(np.array(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
        cv2.fillPoly(image, rings, colour, shift=4)


def _stroke(
    image: NDArray[np.uint8], line: NDArray[np.float64], colour: tuple[int, int, int], width_m: float, closed=False
) -> None:
    cv2.polylines(image, [_pixels(line)], closed, colour, max(1, round(width_m / CELL_M)), shift=4)


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
