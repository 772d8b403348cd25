"""Lidar sweeps as annotation tools take them, and how many of their points lie in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sead_ray.errors import InputError
from sead_ray.geometry import transform_points
from sead_ray.records import Frame
from sead_ray.storage import Store

Points = NDArray[np.float64]

BOX_MARGIN_M = 0.01  # returns lie on the surface of what they hit


def read_sweep(data: Store, key: str) -> Points:
    """(n, 4) x, y, z, intensity in the lidar frame, of a nuScenes `.pcd.bin` (five float32 a point).

    Raises:
        InputError: the file is missing, or is none such.
    """
    raw = np.frombuffer(data.read_bytes(key), np.uint8)
    if len(raw) % 20 or not len(raw):
        raise InputError(
            f"{data.path(key)} is not a lidar sweep of nuScenes: {len(raw)} bytes are not five float32 a point."
        )
    return raw.view(np.float32).reshape(-1, 5)[:, :4].astype(np.float64)


def to_global(points: Points, frame: Frame, origin_m: ArrayLike = (0.0, 0.0, 0.0)) -> NDArray[np.float32]:
    """(n, 4) of a frame's sweep in global axes, x, y, z counted from `origin_m`."""
    places = transform_points(frame.global_from_lidar, points[:, :3]) - np.asarray(origin_m, np.float64)
    return np.concatenate([places, points[:, 3:]], axis=1).astype(np.float32)


def pcd_bytes(points: NDArray[np.float32]) -> bytes:
    """A binary PCD file (Point Cloud Library, version 0.7) of (n, 4) x, y, z, intensity."""
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\n"
        f"TYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(points)}\nDATA binary\n"
    )
    return header.encode("ascii") + np.ascontiguousarray(points, "<f4").tobytes()


def count_inside(points_xyz: Points, box_from_global: Points, size_lwh_m: ArrayLike) -> int:
    """How many of (n, 3) global points lie in a box around the origin of `box_from_global`'s target."""
    local = np.abs(transform_points(box_from_global, points_xyz))
    return int((local <= np.asarray(size_lwh_m, np.float64) / 2 + BOX_MARGIN_M).all(axis=1).sum())
