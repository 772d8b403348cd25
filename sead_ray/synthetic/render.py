"""The camera: painted ground by ray-plane intersection, faces by a z-buffer, then light, weather and the sensor.

The rig moves in the plane only, so that what a pixel sees of the ground is one constant point of the ego frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose, invert
from sead_ray.synthetic.ground import CELL_M, LEVELS
from sead_ray.synthetic.kernels import refresh_kernels
from sead_ray.synthetic.raster import FOLIAGE, NEAR_M, draw_faces, draw_patches
from sead_ray.synthetic.rig import CAMERAS, CameraSpec
from sead_ray.synthetic.shade import Floor, Paint, develop, mirror, paint_pixels
from sead_ray.synthetic.weather import SUN, Weather

FAR_M = 170.0
SHARP_FROM_PX = 500  # narrower pictures are drawn on a grid twice as fine
# Each camera of the rig is another specimen: exposure, vignette, colour cast.
SENSORS = (
    (1.0, 0.05, (1.0, 1.0, 1.0)),
    (0.97, 0.07, (1.01, 1.0, 0.98)),
    (1.03, 0.06, (0.99, 1.0, 1.02)),
    (0.94, 0.08, (1.0, 1.01, 0.99)),
    (1.05, 0.06, (1.02, 1.0, 0.98)),
    (0.98, 0.07, (0.98, 1.0, 1.02)),
)


@dataclass(frozen=True)
class Faces:
    """Everything with a surface, in the global frame: (q, 4, 3) corners, colours, owner, glow, material, seed.

    glow: 0 none, 1 a light, 3 a light at night only. `patches`: (p, 4, 3) shadows on the ground with their strength
    0..255; `pools`: light on the ground likewise.
    """

    quads: NDArray[np.float32]
    colours: NDArray[np.float32]
    glow: NDArray[np.int8]
    owner: NDArray[np.int32]
    material: NDArray[np.int8]
    seed: NDArray[np.int32]
    patches: tuple[NDArray[np.float32], NDArray[np.uint8]]
    pools: tuple[NDArray[np.float32], NDArray[np.uint8]]

    def of(self, owner: int) -> Faces:
        """Those of one road user, without shadows."""
        mine = self.owner == owner
        none = (np.zeros((0, 4, 3), np.float32), np.zeros(0, np.uint8))
        kept = (getattr(self, name)[mine] for name in ("quads", "colours", "glow", "owner", "material", "seed"))
        return Faces(*kept, none, none)


@dataclass(frozen=True, eq=False)
class View:
    """One camera at one image size; arrays over pixels of the (maybe finer) drawing grid.

    Attributes:
        intrinsics: of the drawing grid. ground_ego: (h, w, 2) seen ground point; level: (h, w) mip level there.
        inverse_depth: (h, w) of the ground, 0 in the sky. beam: (h, w) the ego's head light on the ground.
    """

    spec: CameraSpec
    number: int
    width: int
    height: int
    finer: int
    intrinsics: NDArray[np.float64]
    ground_ego: NDArray[np.float32]
    level: NDArray[np.int8]
    inverse_depth: NDArray[np.float32]
    beam: NDArray[np.float32]

    @property
    def lens(self) -> NDArray[np.float64]:
        return self.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]]


@lru_cache(maxsize=12)
def view(camera: int, width: int, height: int) -> View:
    """What of a camera's geometry stays the same over a data set."""
    refresh_kernels()
    spec = CAMERAS[camera]
    finer = 2 if width < SHARP_FROM_PX else 1
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
    down &= depth < FAR_M * 4
    depth = np.where(down, depth, 1.0)
    ground = (matrix[:2, 3] + directions[..., :2] * depth[..., None]).astype(np.float32)
    footprint = (
        (1.5 if finer > 1 else 1.0) * depth / intrinsics[0, 0] * np.sqrt(np.maximum(depth / matrix[2, 3], 1)) / 2
    )
    level = np.clip(np.round(np.log2(np.maximum(footprint / CELL_M, 1e-6))), 0, LEVELS - 1).astype(np.int8)
    inverse = np.where(down, 1 / depth, 0).astype(np.float32)
    beam = np.where(down, head_light(ground), 0).astype(np.float32)
    return View(spec, camera, width, height, finer, intrinsics, ground, level, inverse, beam)


def head_light(points_ego: NDArray) -> NDArray[np.float32]:
    """Share of the ego's head light that reaches ground points (..., 2) of the ego frame."""
    x, y = points_ego[..., 0] - 3.0, points_ego[..., 1]
    spread = np.exp(-((y / (1.2 + 0.24 * np.maximum(x, 0))) ** 2))
    return np.where(x > 0, spread * np.clip(1.15 - x / 42, 0, 1), 0.0)


def render(
    seen: View, floor: Floor, faces: Faces, global_from_ego: Pose, weather: Weather, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """One picture, (height, width, 3) RGB, and the owner of the face in each pixel of the drawing grid (-1: none)."""
    global_from_camera = global_from_ego.matrix @ seen.spec.ego_from_camera.matrix
    camera_from_global = invert(global_from_camera)
    corners = _in_camera(faces.quads, camera_from_global)
    kept = _in_picture(corners, faces.material, seen)
    corners, owner = corners[kept], faces.owner[kept]
    material, glowing, seed = faces.material[kept], faces.glow[kept], faces.seed[kept]
    colours = _lit(faces.quads[kept], faces.colours[kept], material, glowing, global_from_ego, weather)
    which = np.full(seen.inverse_depth.shape, -1, np.int32)
    depth = seen.inverse_depth.copy()
    draw_faces(corners, material, seen.lens, which, depth)
    masks = [np.zeros(which.shape, np.uint8) for _ in range(2)]
    for mask, (quads, strength) in zip(masks, (faces.patches, faces.pools if weather.night else _NOTHING)):
        if len(quads):
            draw_patches(_in_camera(quads, camera_from_global), strength, seen.lens, which, mask)
    soft = 3 * seen.width * seen.finer // 800 + 1
    patches, pools = cv2.blur(masks[0], (soft, soft)), cv2.blur(masks[1], (3 * soft, 3 * soft))
    light = weather.light()
    shines = np.where(glowing == 3, int(weather.night), glowing).astype(np.int8)
    edges = corners[:, (1, 3)] - corners[:, :1]
    reach = np.maximum(np.linalg.norm(edges, axis=2), np.float32(1e-6))
    paint = Paint(corners, edges / reach[..., None], reach, colours, material, seed, shines)
    ego = np.array([*global_from_ego.translation_m[:2], global_from_ego.heading_rad])
    colour = np.empty((*which.shape, 3), np.float32)
    glow = np.zeros(which.shape, np.uint8)
    paint_pixels(
        which,
        depth,
        seen.ground_ego,
        seen.level,
        seen.finer,
        seen.beam,
        patches,
        pools,
        paint,
        floor,
        light,
        seen.lens,
        np.ascontiguousarray(global_from_camera[:3, :3]),
        ego,
        colour,
        glow,
    )
    if light.wet:
        mirror(which, colour, light.wet)
    picture = _through_the_lens(colour, glow, seen, weather, rng)
    return picture, np.where(which >= 0, owner[which] if len(owner) else -1, -1).astype(np.int32)


_NOTHING = (np.zeros((0, 4, 3), np.float32), np.zeros(0, np.uint8))


def _in_camera(quads: NDArray[np.float32], camera_from_global: NDArray[np.float64]) -> NDArray[np.float32]:
    return (quads.astype(np.float64) @ camera_from_global[:3, :3].T + camera_from_global[:3, 3]).astype(np.float32)


def _in_picture(corners: NDArray[np.float32], material: NDArray, seen: View) -> NDArray[np.int64]:
    """Faces that may be seen."""
    height, width = seen.inverse_depth.shape
    fx, fy, cx, cy = seen.lens
    z = corners[..., 2]
    shown = (z.max(1) > NEAR_M) & (z.min(1) < FAR_M)
    for axis, slope in ((0, max(cx, width - cx) / fx), (1, max(cy, height - cy) / fy)):
        shown &= (corners[..., axis] - slope * z).min(1) < 0
        shown &= (corners[..., axis] + slope * z).max(1) > 0
    return np.flatnonzero(shown)


def _lit(quads, colours, material, glow, global_from_ego: Pose, weather: Weather) -> NDArray[np.float32]:
    """(q, 3) colour of each face, by its angle to the sun and, at night, to the head lights."""
    normals = np.cross(quads[:, 1] - quads[:, 0], quads[:, 3] - quads[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    contrast = 0.38 if weather.sunny else 0.2
    shade = 1 - contrast + contrast * np.clip(normals @ SUN.astype(np.float32), -0.6, 1)
    shade = np.where(material == FOLIAGE, 0.85, shade)
    if weather.night:
        middle = quads.mean(axis=1)
        local = (middle - np.array(global_from_ego.translation_m)) @ global_from_ego.matrix[:3, :3]
        beam = head_light(local[:, :2]) * np.clip(1.6 - middle[:, 2] / 4, 0, 1)
        shade = np.where(glow == 0, shade * (weather.ambient + 0.1) + 0.6 * beam, 1.25)
    else:
        shade = np.where(glow == 1, 1.1, shade * weather.ambient)
    return (colours * shade[:, None]).astype(np.float32)


def _through_the_lens(colour, glow, seen: View, weather: Weather, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Glare, streaks, then the sensor: on the picture's own pixels."""
    size = (seen.width, seen.height)
    if seen.finer > 1:
        colour, glow = (
            cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (colour, glow * np.uint8(255))
        )
        glow = glow.astype(np.float32) / 255
    if weather.night:
        radius = max(1.0, seen.width / 130)
        lights = colour * glow[..., None].astype(np.float32)
        colour = (
            colour + 1.5 * cv2.GaussianBlur(lights, (0, 0), radius) + 2.0 * cv2.GaussianBlur(lights, (0, 0), 4 * radius)
        )
    if weather.rain:
        grey = colour.mean(axis=-1, keepdims=True)
        colour = _streaks(grey + 0.65 * (colour - grey), weather, rng)
    exposure, vignette, tint = SENSORS[seen.number]
    exposure *= rng.uniform(0.55, 1.45) if weather.flicker else rng.uniform(0.97, 1.03)
    noise = rng.normal(0, 3.6 if weather.night else 1.8, (67, 101)).astype(np.float32)
    out = np.empty((seen.height, seen.width, 3), np.uint8)
    develop(np.asarray(colour, np.float32), noise, exposure, vignette, np.array(tint), out)
    return out


def _streaks(colour: NDArray[np.float32], weather: Weather, rng: np.random.Generator) -> NDArray[np.float32]:
    height, width = colour.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    scale = width / 400
    for x, y, size in rng.random((110, 3)):
        reach = (6 + 16 * size) * scale
        start, end = (int(x * width), int(y * height)), (int(x * width - reach * 0.15), int(y * height + reach))
        cv2.line(layer, start, end, (255,), max(1, round(scale)), cv2.LINE_AA)
    strength = 0.12 if weather.night else 0.26
    return colour + (np.float32(215) - colour) * (layer[..., None].astype(np.float32) / 255 * strength)
