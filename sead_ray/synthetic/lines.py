"""Polylines in the ground plane: resampling, offsets, curves. All are (n, 2) float64 in metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Line = NDArray[np.float64]


def arc_lengths(line: Line) -> NDArray[np.float64]:
    """(n,) distance of each vertex from the first, along the line."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])


def length(line: Line) -> float:
    return float(arc_lengths(line)[-1])


def points_at(line: Line, distances_m: NDArray[np.float64]) -> Line:
    """(k, 2) points at the given distances along the line, clipped to its ends."""
    along = arc_lengths(line)
    return np.stack([np.interp(distances_m, along, line[:, axis]) for axis in range(2)], axis=1)


def resample(line: Line, spacing_m: float) -> Line:
    """Equal steps of about `spacing_m`; the ends stay."""
    total = length(line)
    return points_at(line, np.linspace(0.0, total, max(2, round(total / spacing_m) + 1)))


def cut(line: Line, start_m: float, stop_m: float, spacing_m: float = 1.0) -> Line:
    """The part between two distances along the line."""
    count = max(2, round((stop_m - start_m) / spacing_m) + 1)
    return points_at(line, np.linspace(start_m, stop_m, count))


def smooth(line: Line, sigma_m: float, spacing_m: float = 1.0) -> Line:
    """Gaussian smoothing along the line; both ends and their directions stay."""
    line = resample(line, spacing_m)
    pad = int(np.ceil(3 * sigma_m / spacing_m)) + 1
    head = line[0] + (line[0] - line[1]) * np.arange(pad, 0, -1)[:, None]
    tail = line[-1] + (line[-1] - line[-2]) * np.arange(1, pad + 1)[:, None]
    padded = np.concatenate([head, line, tail])
    return gaussian_filter1d(padded, sigma_m / spacing_m, axis=0, mode="nearest")[pad:-pad]


def directions(line: Line) -> Line:
    """(n, 2) unit tangents."""
    tangents = np.gradient(line, axis=0)
    return tangents / np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-12)


def offset(line: Line, left_m: float) -> Line:
    """The line moved sideways, positive to the left of its direction."""
    tangents = directions(line)
    return line + left_m * np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)


def ribbon(line: Line, left_m: float, right_m: float) -> Line:
    """(2n, 2) outline of the strip between two sideways offsets (positive to the left)."""
    return np.concatenate([offset(line, left_m), offset(line, right_m)[::-1]])


def bezier(start: Line, start_direction: Line, end: Line, end_direction: Line, spacing_m: float = 0.5) -> Line:
    """Cubic curve between two poses; close to a circular arc for turns of up to a right angle."""
    reach = 0.39 * float(np.linalg.norm(end - start))  # 0.5523 R for a quarter circle
    t = np.linspace(0.0, 1.0, 64)[:, None]
    controls = (start, start + reach * start_direction, end - reach * end_direction, end)
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    points = np.sum([weight * control for weight, control in zip(weights, controls)], axis=0)
    return resample(points, spacing_m)


def headings(line: Line) -> NDArray[np.float64]:
    tangents = directions(line)
    return np.arctan2(tangents[:, 1], tangents[:, 0])
