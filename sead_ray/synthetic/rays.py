"""Rays against boxes and the ground: the lidar, and how much of a road user can be seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose, invert, rotation_matrix, transform_points
from sead_ray.synthetic.rig import EGO_FROM_LIDAR

RINGS, AZIMUTHS = 32, 300
RANGE_M = 70.0
ELEVATIONS_RAD = np.deg2rad(np.linspace(-30.67, 10.67, RINGS))  # HDL-32E


def lidar_scan(
    boxes: NDArray[np.float64], colours: NDArray[np.float64], global_from_ego: Pose
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """One turn of the lidar.

    Args:
        boxes: (n, 7) centre x, y, z, length, width, height, yaw in the global frame.
        colours: (n,) brightness 0..255, which becomes the intensity.

    Returns:
        (m, 5) x, y, z, intensity, ring in the lidar frame, and (m,) index of the box that was hit, -1 for the ground.
    """
    azimuth = np.linspace(-np.pi, np.pi, AZIMUTHS, endpoint=False)
    ring, turn = np.meshgrid(np.arange(RINGS), np.arange(AZIMUTHS))  # (azimuths, rings)
    flat = np.cos(ELEVATIONS_RAD)[ring]
    rays = np.stack([flat * np.cos(azimuth)[turn], flat * np.sin(azimuth)[turn], np.sin(ELEVATIONS_RAD)[ring]], -1)
    global_from_lidar = global_from_ego.matrix @ EGO_FROM_LIDAR.matrix
    origin = global_from_lidar[:3, 3]
    directions = rays @ global_from_lidar[:3, :3].T
    distance, owner = first_hits(origin, directions, boxes)
    kept = np.isfinite(distance) & (distance < RANGE_M)
    points = rays[kept] * distance[kept][:, None]
    shade = (
        np.where(owner >= 0, colours[np.maximum(owner, 0)] * 0.3 + 5, 12.0)
        if len(boxes)
        else np.full(owner.shape, 12.0)
    )
    scan = np.concatenate([points, shade[kept][:, None], ring[kept][:, None]], axis=1).astype(np.float32)
    return scan, owner[kept]


def first_hits(
    origin: NDArray[np.float64], directions: NDArray[np.float64], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances (turns, rings), inf for none, and the box hit (-1 ground) of rays ordered by azimuth.

    A box is tested only against the turns that its outline covers as seen from the origin.
    """
    down = directions[..., 2] < -1e-6
    distance = np.where(down, -origin[2] / np.where(down, directions[..., 2], -1.0), np.inf)
    owner = np.full(distance.shape, -1, np.int64)
    turns = len(directions)
    start = np.arctan2(directions[0, 0, 1], directions[0, 0, 0])
    for number, box in enumerate(boxes):
        reach = np.hypot(box[3], box[4]) / 2
        away = np.hypot(*(box[:2] - origin[:2]))
        if away - reach > RANGE_M:
            continue
        half = np.arcsin(min(reach / away, 1.0)) if away > reach else np.pi
        bearing = np.arctan2(box[1] - origin[1], box[0] - origin[0]) - start
        first = int(np.floor((bearing - half) / (2 * np.pi) * turns)) - 2
        last = int(np.ceil((bearing + half) / (2 * np.pi) * turns)) + 2
        columns = np.arange(first, min(last, first + turns - 1) + 1) % turns
        hit = box_hits(origin, directions[columns], box)
        nearer = hit < distance[columns]
        distance[columns] = np.where(nearer, hit, distance[columns])
        owner[columns] = np.where(nearer, number, owner[columns])
    return distance, owner


def box_hits(origin: NDArray[np.float64], directions: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray:
    """Distance at which each ray (..., 3) enters one box (7,), inf where it misses it."""
    c, s = np.cos(box[6]), np.sin(box[6])
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start = turn @ (origin - box[:3])
    rays = directions @ turn.T
    rays = np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    low, high = (-box[3:6] / 2 - start) / rays, (box[3:6] / 2 - start) / rays
    enter, leave = np.minimum(low, high).max(-1), np.maximum(low, high).min(-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def points_inside(points: NDArray[np.float32], centre: NDArray, size_wlh, yaw_rad: float, lidar_from_global) -> int:
    """How many lidar points (m, 3+) lie in an annotated box given in the global frame."""
    turn = lidar_from_global[:3, :3] @ rotation_matrix((np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2)))
    middle = transform_points(lidar_from_global, centre)
    local = (points[:, :3].astype(np.float64) - middle) @ turn
    width, length, height = size_wlh
    return int((np.abs(local) <= np.array([length, width, height]) / 2).all(axis=1).sum())


def seen_shares(
    eye: NDArray[np.float64],
    targets: NDArray[np.float64],
    boxes: NDArray[np.float64],
    owners: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(k,) share of a grid of points in each target that no box of somebody else hides from the eye.

    Args:
        eye: (3,) in the global frame. targets: (k, 8): owner, centre x, y, z, length, width, height, yaw.
        boxes: (n, 7) as in `lidar_scan`; owners: (n,) whose they are, -1 for scenery.
    """
    grid = np.stack(np.meshgrid(*[np.array([-0.4, 0.0, 0.4])] * 3, indexing="ij"), -1).reshape(-1, 3)
    out = np.ones(len(targets))
    away = np.hypot(boxes[:, 0] - eye[0], boxes[:, 1] - eye[1])
    bearing = np.arctan2(boxes[:, 1] - eye[1], boxes[:, 0] - eye[0])
    reach = np.hypot(boxes[:, 3], boxes[:, 4]) / 2
    half = np.arcsin(np.clip(reach / np.maximum(away, 1e-3), 0, 1))
    for row, target in enumerate(targets):
        c, s = np.cos(target[7]), np.sin(target[7])
        points = (grid * target[4:7]) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + target[1:4]
        rays = points - eye
        distance = float(np.hypot(*(target[1:3] - eye[:2])))
        width = float(np.arcsin(min(np.hypot(*target[4:6]) / 2 / max(distance, 1e-3), 1.0)))
        turn = np.abs((bearing - np.arctan2(target[2] - eye[1], target[1] - eye[0]) + np.pi) % (2 * np.pi) - np.pi)
        near = (away - reach < distance) & (turn < half + width) & (owners != target[0])
        hidden = np.zeros(len(points), bool)
        for box in boxes[near]:
            hidden |= box_hits(eye, rays, box) < 1.0
        out[row] = 1 - hidden.mean()
    return out


def lidar_from_global(global_from_ego: Pose) -> NDArray[np.float64]:
    return invert(global_from_ego.matrix @ EGO_FROM_LIDAR.matrix)
