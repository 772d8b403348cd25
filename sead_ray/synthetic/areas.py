"""Areas of a town: what vehicles drive on, and where people walk."""

from __future__ import annotations

from functools import lru_cache

from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from sead_ray.synthetic import lines
from sead_ray.synthetic.network import SIDEWALK_M, Town


@lru_cache(maxsize=4)
def drivable_area(town: Town) -> BaseGeometry:
    """Union of the carriageways and the junctions, without the islands of roundabouts."""
    roads = [Polygon(lines.ribbon(road.line, road.half_m, -road.half_m)).buffer(0) for road in town.roads]
    union = unary_union([area.buffer(0.05) for area in roads + [Polygon(node.outline) for node in town.junctions]])
    islands = [Polygon(node.island) for node in town.junctions if node.island is not None]
    return union.difference(unary_union(islands)) if islands else union


@lru_cache(maxsize=4)
def walkway_area(town: Town) -> BaseGeometry:
    """A strip along every kerb."""
    area = drivable_area(town)
    islands = [Polygon(node.island).buffer(0.1) for node in town.junctions if node.island is not None]
    walks = area.buffer(SIDEWALK_M, join_style="round").difference(area)
    return walks.difference(unary_union(islands)) if islands else walks


def polygons_of(area: BaseGeometry) -> list[Polygon]:
    if isinstance(area, MultiPolygon):
        return list(area.geoms)
    return [area] if isinstance(area, Polygon) else []
