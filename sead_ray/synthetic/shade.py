"""Colour of every pixel: what its face or the ground is painted with, light, haze, and wet reflections."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.raster import FACADE, FOLIAGE, PLAIN, grain

Array = Any
GLASS = (62.0, 78.0, 94.0)
LIT = (255.0, 214.0, 140.0)


class Light(NamedTuple):
    """Light and air of one picture. Colours are RGB 0..255 as (3,) arrays.

    `ambient`: of the ground. `haze_m`: distance at which 63 % of a colour is lost. `shadow`: share of light that sun
    shadows leave. `cover`: of clouds, 0..1. `wet`: share of the mirrored picture on the ground.
    """

    night: bool
    ambient: float
    haze_m: float
    haze: Array
    zenith: Array
    shadow: float
    cover: float
    drift: float
    wet: float


class Paint(NamedTuple):
    """Faces of one picture: corners (Q, 4, 3) in the camera frame, the unit vectors (Q, 2, 3) along two edges and those
    edges' lengths (Q, 2), lit colours (Q, 3), material, seed, glow (Q,)."""

    corners: Array
    edges: Array
    reach: Array
    colours: Array
    material: Array
    seed: Array
    glow: Array


class Floor(NamedTuple):
    """The painted ground: packed RGB of all mip levels in one array, and coarser maps of lamp light and shadows."""

    texels: Array  # uint32
    starts: Array
    sides: Array
    cell_m: float
    lamps: Array
    shadows: Array
    coarse_m: float


@kernel
def _texel(texels, start, side, x, y):
    column = min(max(int(x), 0), side - 1)
    row = min(max(int(y), 0), side - 1)
    return texels[start + row * side + column]


@kernel
def _ground(texels, start, side, size, fine, x, y, out):
    """RGB of the ground at global x, y, between the four nearest cells, with fine grain close by."""
    u, v = x / size, y / size
    u, v = u - 0.5, v - 0.5
    a, b = u - np.floor(u), v - np.floor(v)
    p00, p10 = _texel(texels, start, side, u - a, v - b), _texel(texels, start, side, u - a + 1, v - b)
    p01, p11 = _texel(texels, start, side, u - a, v - b + 1), _texel(texels, start, side, u - a + 1, v - b + 1)
    rough = 12.0 * (grain(int(x * 22), int(y * 22)) - 0.5) if fine else 0.0
    for band in range(3):
        shift = 8 * band
        low = ((p00 >> shift) & 255) * (1 - a) + ((p10 >> shift) & 255) * a
        high = ((p01 >> shift) & 255) * (1 - a) + ((p11 >> shift) & 255) * a
        out[band] = low * (1 - b) + high * b + rough


@kernel
def _coarse(plane, size, x, y):
    row, column = int(y / size), int(x / size)
    if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
        return plane[row, column] / 255.0
    return 0.0


@kernel
def _sky(night, haze, zenith, cover, drift, dx, dy, dz, out):
    """Gradient from haze to zenith, and clouds on a plane high above."""
    rise = min(max(dz * 2.5, 0.0), 1.0)
    cloud = 0.0
    if dz > 0.02 and cover > 0:
        u, v = dx / (dz + 0.12) * 2.4 + drift, dy / (dz + 0.12) * 2.4
        total, weight = 0.0, 0.5
        for octave in range(3):
            iu, iv = np.floor(u), np.floor(v)
            a, b = u - iu, v - iv
            a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
            i, j = int(iu) + 57 * octave, int(iv)
            low = grain(i, j) * (1 - a) + grain(i + 1, j) * a
            high = grain(i, j + 1) * (1 - a) + grain(i + 1, j + 1) * a
            total += weight * (low * (1 - b) + high * b)
            u, v, weight = u * 2.1, v * 2.1, weight / 2
        cloud = min(max((total - 0.72 + 0.5 * cover) * 3.0, 0.0), 1.0) * min(dz * 6, 1.0)
    white = 40.0 if night else 236.0
    for band in range(3):
        clear = haze[band] + (zenith[band] - haze[band]) * rise
        out[band] = clear + (white - clear) * 0.75 * cloud


@kernel
def _face(corners, edges, reach, colours, materials, seeds, lights, night, ambient, q, x, y, z, out):
    """Colour of face q at a point of the camera frame; returns whether it gives light of its own."""
    material = materials[q]
    for band in range(3):
        out[band] = colours[q, band]
    if material == PLAIN:
        return lights[q] > 0
    up = reach[q, 1]
    dx, dy, dz = x - corners[q, 0, 0], y - corners[q, 0, 1], z - corners[q, 0, 2]
    s = dx * edges[q, 0, 0] + dy * edges[q, 0, 1] + dz * edges[q, 0, 2]
    t = dx * edges[q, 1, 0] + dy * edges[q, 1, 1] + dz * edges[q, 1, 2]
    seed = seeds[q]
    if material == FOLIAGE:
        tone = 0.62 + 0.6 * grain(int(s * 6) + seed, int(t * 6)) * (0.55 + 0.45 * t / up)
        for band in range(3):
            out[band] *= tone
    elif material == FACADE:
        wide = 2.4 + 1.6 * ((seed >> 3) & 3) / 3
        iu, iv = int(s / wide), int(t / 3.3)
        fu, fv = s / wide - iu, t / 3.3 - iv
        ground_floor = iv == 0 and seed & 1
        edge = 0.1 if ground_floor else 0.24
        if edge < fu < 1 - edge and (0.08 if ground_floor else 0.28) < fv < 0.8 and t < up - 0.4:
            pane = grain(iu + seed, iv * 7 + seed)
            shine = 0.7 + 0.6 * pane + 0.25 * (fu - fv)
            if night and pane > 0.72:
                for band in range(3):
                    out[band] = LIT[band] * (0.35 + 0.4 * grain(iu, iv + seed))
                return True
            dim = 0.12 if night else ambient
            for band in range(3):
                out[band] = GLASS[band] * shine * dim
        else:
            tone = 0.94 + 0.1 * grain(int(s * 3.3) + (int(t * 8) & 1) * 5, int(t * 8) + seed)
            for band in range(3):
                out[band] *= tone
    return lights[q] > 0


@kernel
def _same_as_block(which, depth, row, column):
    """Whether a pixel and the first of its block of four both show the ground, or both the sky: those are smooth, and
    one colour does for the block."""
    if which[row, column] >= 0 or (row & 1) + (column & 1) == 0:
        return False
    top, left = row - (row & 1), column - (column & 1)
    return which[top, left] < 0 and (depth[top, left] > 0) == (depth[row, column] > 0)


@kernel
def paint_pixels(
    which, depth, ground_ego, level, finer, beam, patches, pools, paint, floor, light, lens, camera, ego, out, glow
):
    """Fills `out` (H, W, 3) with colours and `glow` (H, W) with 1 where light comes from.

    Args:
        ground_ego: (H, W, 2) ground point that a pixel sees, in the ego frame. camera: (3, 3) global from camera.
        ego: x, y, heading. patches, pools: (H, W) 0..255 dynamic shadows, and light on the ground.
    """
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    one = np.empty(3)
    # taken out of the tuples once: taking them out for every pixel costs more than the painting
    corners, edges, reach, colours, materials, seeds, lights = paint
    texels, starts, sides, cell_m, lamps, shadows, coarse_m = floor
    night, ambient, haze_m, haze, zenith, static, cover, drift, _ = light
    height, width = which.shape
    for row in range(height):
        rv = (row + 0.5 - lens[3]) / lens[1]
        for column in range(width):
            if finer > 1 and _same_as_block(which, depth, row, column):
                for band in range(3):
                    out[row, column, band] = out[row - (row & 1), column - (column & 1), band]
                continue
            ru = (column + 0.5 - lens[2]) / lens[0]
            q = which[row, column]
            if q < 0 and depth[row, column] == 0:
                dx = camera[0, 0] * ru + camera[0, 1] * rv + camera[0, 2]
                dy = camera[1, 0] * ru + camera[1, 1] * rv + camera[1, 2]
                dz = camera[2, 0] * ru + camera[2, 1] * rv + camera[2, 2]
                norm = np.sqrt(dx * dx + dy * dy + dz * dz)
                _sky(night, haze, zenith, cover, drift, dx / norm, dy / norm, dz / norm, one)
                out[row, column, 0], out[row, column, 1], out[row, column, 2] = one[0], one[1], one[2]
                continue
            z = 1.0 / depth[row, column]
            clear = np.exp(-z / haze_m)
            if q >= 0:
                shines = _face(
                    corners, edges, reach, colours, materials, seeds, lights, night, ambient, q, ru * z, rv * z, z, one
                )
                glow[row, column] = shines
                if shines:
                    clear = np.sqrt(clear)
            else:
                gx, gy = ground_ego[row, column, 0], ground_ego[row, column, 1]
                x, y = ego[0] + cos * gx - sin * gy, ego[1] + sin * gx + cos * gy
                k = level[row, column]
                _ground(texels, starts[k], sides[k], cell_m * (1 << k), k == 0, x, y, one)
                bright = ambient
                if night:
                    bright += 0.85 * beam[row, column] + 0.5 * _coarse(lamps, coarse_m, x, y)
                    bright += pools[row, column] / 255.0
                    bright *= 1 - 0.5 * patches[row, column] / 255.0
                else:
                    dark = max(patches[row, column] / 255.0, static * _coarse(shadows, coarse_m, x, y))
                    bright *= 1 - 0.55 * dark
                for band in range(3):
                    one[band] *= bright
            for band in range(3):
                out[row, column, band] = haze[band] + (one[band] - haze[band]) * clear


@kernel
def mirror(which, out, wet):
    """The wet ground: each column of it shows what stands above its edge, upside down."""
    height, width = which.shape
    for column in range(width):
        edge = 0
        for row in range(height):
            if which[row, column] >= 0:
                edge = row
                continue
            source = 2 * edge - row
            if source < 0 or row == edge:
                continue
            ripple = int(5 * grain(column // 3, row // 2)) - 2
            source = min(max(source + ripple, 0), height - 1)
            share = wet * max(0.25, 1 - (row - edge) / (0.35 * height))
            for band in range(3):
                out[row, column, band] += share * (out[source, column, band] - out[row, column, band])


@kernel
def develop(picture, noise, exposure, vignette, tint, out):
    """Exposure, falling light towards the corners, colour cast and noise of one camera; to 8 bits (H, W, 3)."""
    height, width = picture.shape[:2]
    rows, columns = noise.shape
    for row in range(height):
        y = 2.0 * row / height - 1
        for column in range(width):
            x = 2.0 * column / width - 1
            gain = exposure * (1 - vignette * (x * x + y * y))
            speck = noise[row % rows, column % columns]
            for band in range(3):
                value = picture[row, column, band] * gain * tint[band] + speck
                value = (
                    value if value < 225 else 225 + 30 * (1 - np.exp(-(value - 225) / 30))
                )  # lights do not clip hard
                out[row, column, band] = np.uint8(min(max(value, 0.0), 255.0))
