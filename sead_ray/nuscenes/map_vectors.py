"""Map vectors of a frame from the devkit's `NuScenesMap`, after the practice of VAD and MapTR.

A location's geometry is drawn out of the devkit once and kept in a spatial index in the global frame; a frame then
only clips what lies near it. The patch is 30 x 60 m (x +-15, y +-30), turned with the lidar's yaw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity, ops
from shapely.geometry import LineString, Polygon, box
from shapely.geometry.base import BaseGeometry

from sead_ray.errors import InputError
from sead_ray.records import MAP_CLASSES, MapVector
from sead_ray.storage import Store

HALF_X_M, HALF_Y_M = 15.0, 30.0  # VAD: point_cloud_range
RING_MARGIN_M = 0.2  # VAD: crossings are cut a hair outside the patch, boundaries a hair inside
DIVIDER_LAYERS = ("road_divider", "lane_divider")
CROSSING_LAYER = "ped_crossing"
BOUNDARY_LAYERS = ("road_segment", "lane")


@dataclass(frozen=True)
class LocationMap:
    """The map of one location, global frame, one spatial index for each kind of vector."""

    dividers: shapely.STRtree
    crossings: shapely.STRtree
    road_surfaces: shapely.STRtree


def load_location_map(store: Store, location: str, owner: str) -> LocationMap:
    """Reads `maps/expansion/<location>.json` through the devkit (version 1.3).

    Raises:
        InputError: names the map that is missing or damaged, or the city that nuScenes has no map of and the `owner`
            that lies in it.
    """
    from nuscenes.map_expansion.map_api import NuScenesMap, locations  # late: pulls in matplotlib

    if location not in locations:
        raise InputError(
            f"{owner} lies in {location!r}, of which nuScenes has no map: it knows {', '.join(locations)}."
        )
    key = f"maps/expansion/{location}.json"
    if not store.exists(key):
        raise InputError(f"{store.path(key)} does not exist: unpack the map expansion v1.3 below data.root.")
    try:
        with store.local_copy(key) as folder:  # the devkit opens paths
            api = NuScenesMap(dataroot=str(folder), map_name=location)
        lines = [api.extract_line(row["line_token"]) for layer in DIVIDER_LAYERS for row in getattr(api, layer)]
        crossings = _valid_polygons(api, (CROSSING_LAYER,))
        surfaces = _valid_polygons(api, BOUNDARY_LAYERS)
    except Exception as error:  # the devkit raises anything from AssertionError to KeyError
        raise InputError(f"{store.path(key)} is not a nuScenes map expansion v1.3 ({error!r}).") from error
    return LocationMap(
        shapely.STRtree([line for line in lines if not line.is_empty]),
        shapely.STRtree(crossings),
        shapely.STRtree(surfaces),
    )


def map_vectors(location_map: LocationMap, global_from_lidar: NDArray[np.float64]) -> tuple[MapVector, ...]:
    """Dividers, crossings and boundaries in the lidar frame of one key frame.

    Args:
        global_from_lidar: (4, 4); as upstream only its ground-plane position and yaw count.

    Returns:
        Polylines inside the patch; those of a closed ring repeat their first vertex.
    """
    yaw_rad = float(np.arctan2(global_from_lidar[1, 0], global_from_lidar[0, 0]))
    x_m, y_m = map(float, global_from_lidar[:2, 3])
    patch = affinity.translate(
        affinity.rotate(box(-HALF_X_M, -HALF_Y_M, HALF_X_M, HALF_Y_M), yaw_rad, origin=(0, 0), use_radians=True),
        x_m,
        y_m,
    )

    def clipped(tree: shapely.STRtree) -> list[BaseGeometry]:
        near = tree.geometries[np.sort(tree.query(patch, predicate="intersects"))]
        return [geometry.intersection(patch) for geometry in near]

    def merged(tree: shapely.STRtree) -> BaseGeometry:
        # Merged before they are turned, which would round a shared edge differently on its two sides: the crack
        # between two lanes would be drawn as a boundary.
        return _to_local(shapely.union_all(clipped(tree)), x_m, y_m, yaw_rad)

    parts = [_to_local(geometry, x_m, y_m, yaw_rad) for geometry in clipped(location_map.dividers)]
    dividers = [line for geometry in parts for line in _lines(geometry)]
    crossings = _rings_in_patch(merged(location_map.crossings), RING_MARGIN_M)
    boundaries = _rings_in_patch(merged(location_map.road_surfaces), -RING_MARGIN_M)
    return tuple(
        MapVector(map_class, np.asarray(line.coords, np.float64)[:, :2])
        for map_class, lines in zip(range(len(MAP_CLASSES)), (dividers, crossings, boundaries), strict=True)
        for line in lines
    )


def _valid_polygons(api: Any, layers: Sequence[str]) -> list[Polygon]:
    polygons = [api.extract_polygon(row["polygon_token"]) for layer in layers for row in getattr(api, layer)]
    return [polygon for polygon in polygons if polygon.is_valid and not polygon.is_empty]


def _to_local(geometry: BaseGeometry, x_m: float, y_m: float, yaw_rad: float) -> BaseGeometry:
    moved = affinity.translate(geometry, -x_m, -y_m)
    return affinity.rotate(moved, -yaw_rad, origin=(0, 0), use_radians=True)


def _lines(geometry: BaseGeometry) -> list[LineString]:
    """The lines in a geometry; points, where a line only touches the patch, fall away."""
    if isinstance(geometry, LineString):
        return [geometry] if geometry.length > 0 else []
    return [line for part in getattr(geometry, "geoms", ()) for line in _lines(part)]


def _polygons(geometry: BaseGeometry) -> list[Polygon]:
    parts = [geometry] if isinstance(geometry, Polygon) else getattr(geometry, "geoms", ())
    return [part for part in parts if isinstance(part, Polygon) and not part.is_empty]


def _rings_in_patch(surface: BaseGeometry, margin_m: float) -> list[LineString]:
    """Outlines of the surface, exteriors clockwise and holes counter-clockwise (upstream's sense), cut to the patch."""
    polygons = _polygons(surface)
    window = box(-HALF_X_M - margin_m, -HALF_Y_M - margin_m, HALF_X_M + margin_m, HALF_Y_M + margin_m)
    rings = [(polygon.exterior, False) for polygon in polygons]
    rings += [(ring, True) for polygon in polygons for ring in polygon.interiors]
    out: list[LineString] = []
    for ring, counter_clockwise in rings:
        coords = list(ring.coords)
        line = LineString(coords if ring.is_ccw == counter_clockwise else coords[::-1])
        if window.contains(line):  # an overlay would be free to begin the ring elsewhere
            out.append(line)
            continue
        parts = _lines(line.intersection(window))
        # The ring's first vertex is no end of a line: join what the overlay left apart there.
        out += _lines(ops.linemerge(parts)) if len(parts) > 1 else parts
    return out
