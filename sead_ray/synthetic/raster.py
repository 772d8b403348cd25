"""The z-buffer: convex faces into pixels, nearest first wins. Compiled by numba.

Shape legend: Q faces of four corners, H x W pixels. Coordinates are the camera's (x right, y down, z forward).
"""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.kernels import kernel

NEAR_M = 0.25
PLAIN, FACADE, FOLIAGE, DISC = 0, 1, 2, 3  # materials; the last two are cut out of their faces


@kernel
def grain(ix, iy):
    """Noise 0..1 of a cell, always the same."""
    h = (ix * 374761393 + iy * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65535.0


@kernel
def is_cut_out(material, s, t):
    """Whether the material leaves a hole at s, t (0..1 along the two edges of a face)."""
    x, y = 2 * s - 1, 2 * t - 1
    if material == DISC:
        return x * x + y * y > 1
    rough = grain(int(s * 23), int(t * 23)) * 0.75
    return x * x + y * y > 1.05 - rough or grain(int(s * 61) + 7, int(t * 61)) < 0.12


@kernel
def clip_near(corners, out):
    """The part of a convex polygon in front of the camera, into `out`; returns its number of corners."""
    count = 0
    for k in range(4):
        a, b = corners[k], corners[(k + 1) % 4]
        if a[2] >= NEAR_M:
            for axis in range(3):  # whole rows at once would compile far longer
                out[count, axis] = a[axis]
            count += 1
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            for axis in range(3):
                out[count, axis] = a[axis] + (b[axis] - a[axis]) * (NEAR_M - a[2]) / (b[2] - a[2])
            count += 1
    return count


@kernel
def project(corners, lens, shape, rows, columns):
    """Corners (n, 3) to pixels; returns n and the range of rows covered, n = 0 where nothing is in the picture."""
    piece = np.empty((6, 3), np.float32)
    count = clip_near(corners, piece)
    height, width = shape
    top, bottom, left, right = 1e9, -1e9, 1e9, -1e9
    for k in range(count):
        columns[k] = piece[k, 0] / piece[k, 2] * lens[0] + lens[2]
        rows[k] = piece[k, 1] / piece[k, 2] * lens[1] + lens[3]
        top, bottom = min(top, rows[k]), max(bottom, rows[k])
        left, right = min(left, columns[k]), max(right, columns[k])
    if count < 3 or bottom <= 0 or top >= height or right <= 0 or left >= width:
        return 0, 0, 0
    return count, max(int(np.ceil(top - 0.5)), 0), min(int(np.ceil(bottom - 0.5)), height)


@kernel
def span(rows, columns, count, row, width):
    """First and last (excluded) pixel of a convex polygon in one row."""
    middle = row + 0.5
    low, high = 1e9, -1e9
    for k in range(count):
        m = (k + 1) % count
        if (rows[k] <= middle) != (rows[m] <= middle):
            x = columns[k] + (middle - rows[k]) / (rows[m] - rows[k]) * (columns[m] - columns[k])
            low, high = min(low, x), max(high, x)
    if high < low:
        return 0, 0
    return max(int(np.ceil(low - 0.5)), 0), min(int(np.ceil(high - 0.5)), width)


@kernel
def draw_faces(corners, material, lens, which, depth):
    """Writes the index of the nearest face of each pixel into `which` and its inverse depth into `depth` (H, W).

    Args:
        corners: (Q, 4, 3) in the camera frame. lens: fx, fy, cx, cy.
    """
    rows, columns = np.empty(6), np.empty(6)
    for q in range(len(corners)):
        p = corners[q, 0]
        e, f = corners[q, 1] - p, corners[q, 3] - p
        nx, ny, nz = e[1] * f[2] - e[2] * f[1], e[2] * f[0] - e[0] * f[2], e[0] * f[1] - e[1] * f[0]
        plane = nx * p[0] + ny * p[1] + nz * p[2]
        if (plane >= 0 and material[q] != FOLIAGE) or abs(plane) < 1e-9:
            continue
        count, top, bottom = project(corners[q], lens, which.shape, rows, columns)
        if count == 0:
            continue
        # inverse depth is linear in the pixel
        a, b = nx / plane / lens[0], ny / plane / lens[1]
        c = nz / plane - a * lens[2] - b * lens[3]
        ee, ff = e[0] * e[0] + e[1] * e[1] + e[2] * e[2], f[0] * f[0] + f[1] * f[1] + f[2] * f[2]
        for row in range(top, bottom):
            first, last = span(rows, columns, count, row, which.shape[1])
            for column in range(first, last):
                near = a * (column + 0.5) + b * (row + 0.5) + c
                if near <= depth[row, column]:
                    continue
                if material[q] >= FOLIAGE:
                    z = 1.0 / near
                    x = (column + 0.5 - lens[2]) / lens[0] * z - p[0]
                    y = (row + 0.5 - lens[3]) / lens[1] * z - p[1]
                    z -= p[2]
                    s, t = (x * e[0] + y * e[1] + z * e[2]) / ee, (x * f[0] + y * f[1] + z * f[2]) / ff
                    if is_cut_out(material[q], s, t):
                        continue
                depth[row, column] = near
                which[row, column] = q


@kernel
def draw_patches(corners, strength, lens, which, mask):
    """Largest strength of the ground patches (Q, 4, 3) over each pixel of the bare ground (`which` is -1)."""
    rows, columns = np.empty(6), np.empty(6)
    for q in range(len(corners)):
        count, top, bottom = project(corners[q], lens, which.shape, rows, columns)
        if count == 0:
            continue
        for row in range(top, bottom):
            first, last = span(rows, columns, count, row, which.shape[1])
            for column in range(first, last):
                if which[row, column] < 0 and mask[row, column] < strength[q]:
                    mask[row, column] = strength[q]
