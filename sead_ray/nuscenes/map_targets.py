"""Map vectors as training targets: 20 points each, in every order that draws the same line (VAD's v2 pattern)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from sead_ray.nuscenes.map_vectors import HALF_X_M, HALF_Y_M
from sead_ray.records import MAP_POINTS, MapVector
from sead_ray.targets import MAP_ORDER_FILL, MAP_ORDERS

Array = NDArray[np.float64]


def resample(points_m: Array) -> Array:
    """(20, 2) points at equal distances along the polyline, both ends included."""
    line = shapely.linestrings(points_m)
    points = shapely.line_interpolate_point(line, np.linspace(0.0, shapely.length(line), MAP_POINTS))
    return shapely.get_coordinates(points)


def equivalent_orders(points_m: Array) -> Array:
    """(orders, 20, 2): an open line forward and backward; a closed one (first vertex equals last) begun at each of
    its vertices.

    Points are held inside the patch, since a crossing's ring is cut a hair outside it.
    """
    if np.array_equal(points_m[0], points_m[-1]) and len(points_m) > 2:
        ring = points_m[:-1]
        shifted = [np.roll(ring, shift, axis=0) for shift in range(len(ring))]
        orders = np.stack([resample(np.concatenate([points, points[:1]])) for points in shifted])
    else:
        sampled = resample(points_m)
        orders = np.stack([sampled, sampled[::-1]])
    return np.clip(orders, (-HALF_X_M, -HALF_Y_M), (HALF_X_M, HALF_Y_M))


def draw_orders(orders: Sequence[Array], rng: np.random.Generator) -> NDArray[np.float32]:
    """(m, 19, 20, 2): of each of m lines at most 19 orders, drawn at random; unused places are filled."""
    points = np.full((len(orders), MAP_ORDERS, MAP_POINTS, 2), MAP_ORDER_FILL, np.float32)
    for index, line in enumerate(orders):
        if len(line) > MAP_ORDERS:
            line = line[rng.choice(len(line), MAP_ORDERS, replace=False)]
        points[index, : len(line)] = line
    return points


def map_targets(
    vectors: Sequence[MapVector], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(m, 19, 20, 2) points with unused orders filled, and (m,) classes."""
    points = draw_orders([equivalent_orders(vector.points_m) for vector in vectors], rng)
    return points, np.array([vector.map_class for vector in vectors], np.int64)
