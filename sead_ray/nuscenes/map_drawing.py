"""nuscenes-devkit's map drawings under shapely 2.

The devkit (1.2.0) draws polygons through descartes, which is no longer kept up and fails with shapely 2. `mend_devkit`
puts a patch of our own in its place; everything else of `NuScenesMap` stays as it is.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.polygon import orient


def mend_devkit() -> None:
    """Lets `render_layers`, `render_map_patch`, `render_map_in_image` and their kin draw. May be called again."""
    from nuscenes.map_expansion import map_api

    # PolygonPatch is the only name of descartes that the devkit uses
    vars(map_api)["descartes"] = SimpleNamespace(PolygonPatch=polygon_patch)


def polygon_patch(polygon: Polygon | MultiPolygon, **style: Any) -> PathPatch:
    """A matplotlib patch of a polygon with its holes; `style` goes to the patch.

    Raises:
        TypeError: something else than a polygon or several.
    """
    if not isinstance(polygon, Polygon | MultiPolygon):
        raise TypeError(f"A shapely Polygon or MultiPolygon is wanted, not {type(polygon).__name__}.")
    parts = polygon.geoms if isinstance(polygon, MultiPolygon) else [polygon]
    # holes run the other way round: that is what leaves them empty
    whole = [orient(part) for part in parts if not part.is_empty]
    rings = [ring for part in whole for ring in (part.exterior, *part.interiors)]
    if not rings:
        return PathPatch(Path(np.zeros((0, 2))), **style)
    return PathPatch(Path.make_compound_path(*(_closed(np.asarray(ring.coords)[:, :2]) for ring in rings)), **style)


def _closed(corners: np.ndarray) -> Path:
    codes = np.full(len(corners), Path.LINETO, Path.code_type)
    codes[0], codes[-1] = Path.MOVETO, Path.CLOSEPOLY
    return Path(corners, codes)
