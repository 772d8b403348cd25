"""Map vectors by the devkit's own map geometry: the slow, independent side of comparisons."""

from __future__ import annotations

import numpy as np
import shapely
from nuscenes.map_expansion.map_api import NuScenesMap
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

PATCH = 60.0, 30.0  # along y and x of the lidar frame


def devkit_lines(api: NuScenesMap, global_from_lidar: np.ndarray) -> list[BaseGeometry]:
    """Dividers, crossings and boundaries in the lidar frame, each as one geometry of lines."""
    x, y = global_from_lidar[:2, 3]
    angle_deg = float(np.degrees(np.arctan2(global_from_lidar[1, 0], global_from_lidar[0, 0])))
    patch_box = (x, y, *PATCH)

    def union(*layers: str) -> BaseGeometry:
        found = api.get_map_geom(patch_box, angle_deg, list(layers))
        return shapely.union_all([geometry for _, geometries in found for geometry in geometries])

    crossings, roads = union("ped_crossing"), union("road_segment", "lane")
    return [
        union("road_divider", "lane_divider"),
        _outline(crossings).intersection(box(-15.2, -30.2, 15.2, 30.2)),
        _outline(roads).intersection(box(-14.8, -29.8, 14.8, 29.8)),
    ]


def _outline(surface: BaseGeometry) -> BaseGeometry:
    """Of its polygons; an empty collection has no boundary at all."""
    return shapely.union_all([part.boundary for part in shapely.get_parts(surface) if part.area > 0])
