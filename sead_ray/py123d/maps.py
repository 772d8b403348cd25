"""py123d's map of a log: lines and surfaces as WKB, by layer."""

from __future__ import annotations

import numpy as np
import shapely

from sead_ray.errors import InputError
from sead_ray.nuscenes.map_vectors import LocationMap
from sead_ray.py123d.arrow_log import MAP, ArrowLog
from sead_ray.py123d.folder import MAPS
from sead_ray.storage import Store

# py123d's MapLayer
_LANE, _LANE_GROUP, _INTERSECTION, _CROSSWALK, _GENERIC_DRIVABLE, _ROAD_LINE = 0, 1, 2, 3, 6, 9
# nuScenes: the union of lanes and road segments. Lanes alone leave out intersections where py123d has none.
_ROAD_SURFACES = (_LANE, _LANE_GROUP, _INTERSECTION, _GENERIC_DRIVABLE)
_POLYGONS = (3, 6)  # shapely's numbers of Polygon and MultiPolygon


def map_key(log: ArrowLog) -> str | None:
    """Key of the log's own map, or of its town's; None where there is neither."""
    facts = log.metadata()
    for key in (log.file(MAP), f"{MAPS}/{facts.get('dataset')}/{facts.get('dataset')}_{facts.get('location')}.arrow"):
        if log.store.exists(key):
            return key
    return None


def load_map(store: Store, key: str) -> LocationMap:
    """The map in the shape that nuScenes' has here: painted lines divide, crosswalks cross, lanes,
    intersections and what else can be driven on bound the road.

    Raises:
        InputError: the file is no map of py123d.
    """
    table = store.arrow_file(key, ["map_layer", "wkb"]).read_all()
    layers = table.column("map_layer").to_numpy()
    try:
        shapes = shapely.force_2d(shapely.from_wkb(table.column("wkb").to_numpy(zero_copy_only=False)))
    except (shapely.errors.ShapelyError, TypeError) as error:
        raise InputError(f"{store.path(key)} holds a shape that is no WKB ({error}).") from None
    sound = shapely.is_valid(shapes) & ~shapely.is_empty(shapes)
    polygon = np.isin(shapely.get_type_id(shapes), _POLYGONS)
    return LocationMap(
        dividers=shapely.STRtree(shapes[sound & ~polygon & (layers == _ROAD_LINE)]),
        crossings=shapely.STRtree(shapes[sound & polygon & (layers == _CROSSWALK)]),
        road_surfaces=shapely.STRtree(shapes[sound & polygon & np.isin(layers, _ROAD_SURFACES)]),
    )
