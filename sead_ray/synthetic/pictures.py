"""What one camera of the rig takes at one key frame; and many of them on one sheet."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sead_ray.config import WorldConfig
from sead_ray.synthetic import stage
from sead_ray.synthetic.episode import Episode, drive
from sead_ray.synthetic.ground import painted_ground
from sead_ray.synthetic.plan import ScenePlan, plan_world
from sead_ray.synthetic.render import render, view
from sead_ray.synthetic.rig import CAMERAS
from sead_ray.synthetic.scenery import build_scenery
from sead_ray.synthetic.weather import Weather

JPEG_QUALITY = 88
Picture = NDArray[np.uint8]


def weather_of(plan: ScenePlan, seed: int) -> Weather:
    rng = np.random.default_rng([seed, 19, plan.number])
    cover, drift = float(rng.uniform(0.1, 1.0)), float(rng.uniform(0, 500))
    return Weather(plan.night, plan.rain, cover, drift, plan.scenario == "flicker")


def exposure_time_s(episode: Episode, frame: int, camera: int) -> float:
    """The rig's cameras fire one after the other."""
    return float(episode.times_s[frame]) + CAMERAS[camera].delay_us / 1e6


def take_picture(plan: ScenePlan, world: WorldConfig, episode: Episode, frame: int, camera: int) -> Picture:
    """(height, width, 3) RGB."""
    time = exposure_time_s(episode, frame, camera)
    pose, poses = episode.ego_pose(time), episode.tracks.poses(time)
    axis = (pose.matrix @ CAMERAS[camera].ego_from_camera.matrix)[:2, 2]
    weather = weather_of(plan, world.seed)
    scenery = build_scenery(plan.log.location, world.seed)
    facing = float(np.arctan2(axis[1], axis[0]))
    faces = stage.faces_at(episode.tracks, poses, scenery, time, poses[0, :2], facing, weather)
    rng = np.random.default_rng([world.seed, 17, plan.number, frame, camera])
    seen = view(camera, world.image_width, world.image_height)
    return render(seen, painted_ground(plan.log.location, world.seed), faces, pose, weather, rng)[0]


def jpeg(picture: Picture, quality: int = JPEG_QUALITY) -> bytes:
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("The picture cannot be encoded as JPEG.")
    return data.tobytes()


def contact_sheet(world: WorldConfig, columns: int = 5) -> Picture:
    """One front picture of each scene, from the middle of it, side by side."""
    tiles: dict[int, Picture] = {}
    for plan in sorted(plan_world(world), key=lambda plan: (plan.log.location, plan.number)):
        episode = drive(plan.log.location, world.seed, plan.number, world.frames, plan.scenario)
        tiles[plan.number] = take_picture(plan, world, episode, world.frames // 2, 0)
    blank = np.zeros_like(tiles[0])
    rows = [[tiles.get(first + column, blank) for column in range(columns)] for first in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
