"""The camera: painted ground by ray-plane intersection, faces by a z-buffer, then light and weather.

The rig moves in the plane only, so that what a pixel sees of the ground is one constant point of the ego frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose, invert
from sead_ray.synthetic.rig import CAMERAS, CameraSpec
from sead_ray.synthetic.scenery import CELL_M, LEVELS

NEAR_M = 0.25
FAR_M = 160.0
SUN = np.array([0.45, 0.30, 0.84])


@dataclass(frozen=True)
class Faces:
    """Everything with a surface, in the global frame: (q, 4, 3) corners, colours, owner, and glow.

    glow: 0 none, 1 a light, 3 a light at night only.
    """

    quads: NDArray[np.float32]
    colours: NDArray[np.float32]
    glow: NDArray[np.int8]
    owner: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class View:
    """One camera at one image size; arrays over pixels of the (maybe finer) drawing grid.

    Attributes:
        intrinsics: of the drawing grid. ground_ego: (p, 2) seen ground point of the `ground_pixels` (p,).
        level: (p,) mip level. inverse_depth: (h, w) of the ground, 0 in the sky. beam: (h, w) head light on the ground.
        rise: (h, w) of the sky's colour, 0 at the horizon to 1.
    """

    spec: CameraSpec
    width: int
    height: int
    finer: int
    intrinsics: NDArray[np.float64]
    ground_pixels: tuple[NDArray[np.int64], ...]
    ground_ego: tuple[NDArray[np.float32], ...]
    inverse_depth: NDArray[np.float32]
    beam: NDArray[np.float32]
    rise: NDArray[np.float32]


@lru_cache(maxsize=16)
def view(camera: int, width: int, height: int) -> View:
    """What of a camera's geometry stays the same over a data set."""
    spec = CAMERAS[camera]
    finer = 2 if width <= 256 else 1
    w, h = width * finer, height * finer
    intrinsics = spec.intrinsics(w, h)
    u, v = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
    rays = np.stack(
        [(u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1], np.ones_like(u)], -1
    )
    matrix = spec.ego_from_camera.matrix
    directions = rays @ matrix[:3, :3].T
    down = directions[..., 2] < -1e-4
    depth = np.where(down, -matrix[2, 3] / np.where(down, directions[..., 2], -1), np.inf)
    ground = (matrix[:2, 3] + directions[..., :2] * np.where(down, depth, 0)[..., None]).astype(np.float32)
    down &= depth < FAR_M * 4
    footprint = (
        np.where(down, depth, 1)
        / intrinsics[0, 0]
        * np.sqrt(np.maximum(np.where(down, depth, 1) / matrix[2, 3], 1))
        / 2
    )
    level = np.clip(np.round(np.log2(np.maximum(footprint / CELL_M, 1e-6))), 0, LEVELS - 1).astype(int)
    pixels = tuple(np.flatnonzero(down & (level == number)) for number in range(LEVELS))
    flat = ground.reshape(-1, 2)
    inverse = np.where(down, 1 / depth, 0).astype(np.float32)
    rise = np.clip(directions[..., 2] / np.linalg.norm(directions, axis=-1) * 2.5, 0, 1).astype(np.float32)
    beam = np.where(down, head_light(ground), 0).astype(np.float32)
    return View(spec, width, height, finer, intrinsics, pixels, tuple(flat[i] for i in pixels), inverse, beam, rise)


def head_light(points_ego: NDArray) -> NDArray[np.float32]:
    """Share of the ego's head light that reaches ground points (..., 2) of the ego frame."""
    x, y = points_ego[..., 0] - 3.0, points_ego[..., 1]
    spread = np.exp(-((y / (1.2 + 0.24 * np.maximum(x, 0))) ** 2))
    return np.where(x > 0, spread * np.clip(1.15 - x / 42, 0, 1), 0.0)


@dataclass(frozen=True)
class Weather:
    """Light and air. haze_m: distance at which 63 % of a colour is lost to the haze."""

    night: bool
    rain: bool

    @property
    def ambient(self) -> float:
        return 0.13 if self.night else 0.78 if self.rain else 1.0

    @property
    def haze_m(self) -> float:
        return (90.0 if self.rain else 400.0) * (0.8 if self.night else 1.0)

    @property
    def haze(self) -> NDArray[np.float32]:
        if self.night:
            return np.array([16, 17, 24], np.float32)
        return np.array([168, 172, 176] if self.rain else [196, 206, 216], np.float32)

    @property
    def zenith(self) -> NDArray[np.float32]:
        if self.night:
            return np.array([6, 7, 14], np.float32)
        return np.array([140, 146, 152] if self.rain else [98, 146, 204], np.float32)


def render(
    seen: View,
    ground: tuple[NDArray[np.uint32], ...],
    faces: Faces,
    global_from_ego: Pose,
    weather: Weather,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """One picture, (height, width, 3) RGB, and the owner of the face in each pixel of the drawing grid (-1: none)."""
    global_from_camera = global_from_ego.matrix @ seen.spec.ego_from_camera.matrix
    which, depth = rasterise(faces.quads, seen, invert(global_from_camera))
    light, colour = _ground_colours(seen, ground, global_from_ego)
    colour *= _light(weather, seen.beam, light)[..., None]
    sky = weather.haze + (weather.zenith - weather.haze) * seen.rise[..., None]
    above = seen.inverse_depth == 0
    np.copyto(colour, sky, where=above[..., None])
    drawn = which >= 0
    shades = _face_colours(faces, global_from_ego, weather)
    np.copyto(colour, shades.take(which, axis=0, mode="clip"), where=drawn[..., None])
    owner = np.where(drawn, faces.owner[which], -1)
    # Air and sensor act on the picture's own pixels, of which the drawing grid may have several.
    step = slice(None, None, seen.finer)
    if seen.finer > 1:
        size = (seen.width, seen.height)
        colour = np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_AREA), np.float32)
    which, drawn = which[step, step], drawn[step, step]
    glowing = drawn & (faces.glow[which] > 0)
    colour = _weathered(colour, depth[step, step], glowing, above[step, step] & ~drawn, weather, rng)
    return np.clip(colour, 0, 255).astype(np.uint8), owner


def rasterise(quads: NDArray[np.float32], seen: View, camera_from_global: NDArray) -> tuple[NDArray, NDArray]:
    """Index of the nearest face in each pixel (-1: ground or sky), and inverse depth."""
    height, width = seen.inverse_depth.shape
    which = np.full((height, width), -1, np.int32)
    depth = seen.inverse_depth.copy()
    points = quads @ camera_from_global[:3, :3].T.astype(np.float32) + camera_from_global[:3, 3].astype(np.float32)
    normals = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    plane = (normals * points[:, 0]).sum(-1)
    fx, fy, cx, cy = (seen.intrinsics[i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    z = points[..., 2]
    slope_x, slope_y = (width / 2 + abs(cx - width / 2)) / fx, (height / 2 + abs(cy - height / 2)) / fy
    shown = (plane < 0) & (z.max(1) > NEAR_M) & (z.min(1) < FAR_M)
    for axis, slope in ((0, slope_x), (1, slope_y)):
        shown &= (points[..., axis] - slope * z).min(1) < 0
        shown &= (points[..., axis] + slope * z).max(1) > 0
    numbers = np.flatnonzero(shown)
    numbers = numbers[np.argsort(z[numbers].min(1), kind="stable")]
    # Inverse depth is linear in the pixel: a u + b v + c, from n . p = plane. Pixel i covers [i, i + 1).
    normal = normals[numbers] / plane[numbers, None]
    slope = normal[:, :2] / np.array([fx, fy], np.float32)
    constant = normal[:, 2] - slope @ np.array([cx - 0.5, cy - 0.5], np.float32)
    limit = 1 / np.maximum(z[numbers].min(1), NEAR_M)
    scratch = np.zeros((height, width), np.uint8)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    shapes = _outlines(points[numbers], (fx, fy, cx, cy), width, height)
    for number, (a, b), c, most, (corners, x0, y0, x1, y1) in zip(numbers, slope, constant, limit, shapes):
        if x0 >= x1 or y0 >= y1:
            continue
        mask = scratch[y0:y1, x0:x1]
        mask[:] = 0
        cv2.fillConvexPoly(mask, corners - np.array([x0 * 16, y0 * 16], np.int32), (1,), shift=4)
        near = (a * columns[x0:x1] + c) + b * rows[y0:y1]
        kept = depth[y0:y1, x0:x1]
        win = mask.view(np.bool_) & (near > kept)
        np.copyto(kept, np.minimum(near, most), where=win)
        np.copyto(which[y0:y1, x0:x1], number, where=win)
    return which, depth


def _outlines(points: NDArray[np.float32], lens: tuple[float, float, float, float], width: int, height: int) -> list:
    """For each quad its corners in 1/16 pixel, and the pixels' bounds x0, y0, x1, y1 in the image."""
    fx, fy, cx, cy = lens
    size, offset = np.array([width, height]), np.array([cx - 0.5, cy - 0.5])
    safe = np.maximum(points[..., 2:], NEAR_M)
    fine = np.round((points[..., :2] / safe * np.array([fx, fy]) + offset) * 16).astype(np.int32)
    low = np.maximum(fine.min(1) // 16 - 1, 0)
    high = np.minimum(fine.max(1) // 16 + 3, size)
    out = list(zip(fine, low[:, 0].tolist(), low[:, 1].tolist(), high[:, 0].tolist(), high[:, 1].tolist()))
    for index in np.flatnonzero(points[..., 2].min(1) < NEAR_M):
        corners = _clip_near(points[index])
        shape = np.round((corners[:, :2] / corners[:, 2:] * (fx, fy) + offset) * 16).astype(np.int32)
        x0, y0 = np.maximum(shape.min(0) // 16 - 1, 0).tolist()
        x1, y1 = np.minimum(shape.max(0) // 16 + 3, size).tolist()
        out[index] = (shape, x0, y0, x1, y1)
    return out


def _clip_near(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of a convex polygon in front of the camera."""
    out = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0)):
        if start[2] >= NEAR_M:
            out.append(start)
        if (start[2] >= NEAR_M) != (end[2] >= NEAR_M):
            out.append(start + (end - start) * (NEAR_M - start[2]) / (end[2] - start[2]))
    return np.array(out)


def _ground_colours(seen: View, ground, global_from_ego: Pose) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lamp light (h, w) 0..1 and colour (h, w, 3) of the ground."""
    x, y, _ = global_from_ego.translation_m
    yaw = global_from_ego.heading_rad
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]], np.float32)
    packed = np.zeros(seen.inverse_depth.size, np.uint32)
    for number, (pixels, points) in enumerate(zip(seen.ground_pixels, seen.ground_ego)):
        if len(pixels):
            cells = (points @ turn + np.array([x, y], np.float32)) * np.float32(1 / (CELL_M * 2**number))
            side = len(ground[number])
            index = np.clip(cells, 0, side - 1).astype(np.int32)
            packed[pixels] = ground[number].reshape(-1)[index[:, 1] * side + index[:, 0]]
    bands = packed.view(np.uint8).reshape(*seen.inverse_depth.shape, 4).astype(np.float32)
    return bands[..., 3] / 255, np.ascontiguousarray(bands[..., :3])


def _light(weather: Weather, beam: NDArray, lamp: NDArray) -> NDArray[np.float32]:
    if not weather.night:
        return np.full_like(beam, weather.ambient * (0.86 if weather.rain else 1.0))
    return weather.ambient + 0.85 * beam + 0.45 * lamp


def _face_colours(faces: Faces, global_from_ego: Pose, weather: Weather) -> NDArray[np.float32]:
    """(q, 3) colour of each face, by its angle to the sun and, at night, to the head lights."""
    normals = np.cross(faces.quads[:, 1] - faces.quads[:, 0], faces.quads[:, 2] - faces.quads[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    shade = 0.62 + 0.38 * np.clip(normals @ SUN.astype(np.float32), -0.6, 1)
    if weather.night:
        middle = faces.quads.mean(axis=1)
        local = (middle - np.array(global_from_ego.translation_m)) @ global_from_ego.matrix[:3, :3]
        shade = shade * (weather.ambient + 0.08) + 0.6 * head_light(local[:, :2]) * np.clip(
            1.6 - middle[:, 2] / 4, 0, 1
        )
        shade = np.where(faces.glow == 0, shade, 1.25)
    else:
        shade = shade * weather.ambient
        shade = np.where(faces.glow == 1, 1.1, shade)
    return (faces.colours * shade[:, None]).astype(np.float32)


def _weathered(colour, depth, glowing, sky, weather: Weather, rng: np.random.Generator) -> NDArray[np.float32]:
    """Haze, rain, the glow of lights at night, the sensor's noise."""
    clear = np.exp(-1 / (np.maximum(depth, 1e-4) * np.float32(weather.haze_m)))
    clear[sky] = 1.0
    clear[glowing] = np.sqrt(clear[glowing])
    colour = weather.haze + (colour - weather.haze) * clear[..., None]
    if weather.night:
        lights = np.where(glowing[..., None], colour, 0).astype(np.float32)
        radius = max(1.0, colour.shape[1] / 130)
        colour = colour + 1.6 * cv2.GaussianBlur(lights, (0, 0), radius) * (~glowing[..., None])
    if weather.rain:
        grey = colour.mean(axis=-1, keepdims=True)
        colour = grey + 0.6 * (colour - grey)
        colour = _streaks(colour, weather, rng)
    sigma = 3.5 if weather.night else 1.5
    noise = rng.normal(0, sigma, (64, 96)).astype(np.float32)
    tiles = (-(-colour.shape[0] // 64), -(-colour.shape[1] // 96))
    return colour + np.tile(noise, tiles)[: colour.shape[0], : colour.shape[1], None]


def _streaks(colour: NDArray[np.float32], weather: Weather, rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = colour.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    scale = width / 400
    for x, y, size in rng.random((90, 3)):
        reach = (6 + 16 * size) * scale
        start, end = (int(x * width), int(y * height)), (int(x * width - reach * 0.15), int(y * height + reach))
        cv2.line(layer, start, end, (255,), max(1, round(scale)), cv2.LINE_AA)
    strength = 0.12 if weather.night else 0.3
    return colour + (np.float32(215) - colour) * (layer[..., None].astype(np.float32) / 255 * strength)
