"""The tables that do not grow with frames: vocabulary, sensors, logs, maps."""

from __future__ import annotations

from typing import Any

from sead_ray.records import OBJECT_CATEGORIES
from sead_ray.synthetic.plan import LogPlan, token
from sead_ray.synthetic.rig import CAMERAS, EGO_FROM_LIDAR, unit_rotations

VERSION = "v1.0-trainval"
# The order of nuScenes-lidarseg's category table; VAD's metric goes by the index.
CATEGORIES = (
    *OBJECT_CATEGORIES,
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
ATTRIBUTES = (
    ("vehicle.moving", "Vehicle is moving."),
    ("vehicle.stopped", "Vehicle with a driver is stationary, with an intent to move."),
    ("vehicle.parked", "Vehicle is stationary with no immediate intent to move."),
    ("cycle.with_rider", "There is a rider on the bicycle or motorcycle."),
    ("cycle.without_rider", "There is no rider on the bicycle or motorcycle."),
    ("pedestrian.sitting_lying_down", "The human is sitting or lying down."),
    ("pedestrian.standing", "The human is standing."),
    ("pedestrian.moving", "The human is moving."),
)
VISIBILITIES = (
    ("1", "v0-40", "0 and 40%"),
    ("2", "v40-60", "40 and 60%"),
    ("3", "v60-80", "60 and 80%"),
    ("4", "v80-100", "80 and 100%"),
)


def fixed_tables(seed: int, logs: list[LogPlan], image_size: tuple[int, int]) -> dict[str, list[dict[str, Any]]]:
    """category, attribute, visibility, sensor, calibrated_sensor, log and map."""
    channels = [(camera.name, "camera") for camera in CAMERAS] + [("LIDAR_TOP", "lidar")]
    return {
        "category": [
            {"token": token(0, "category", name), "name": name, "description": "", "index": index}
            for index, name in enumerate(CATEGORIES)
        ],
        "attribute": [
            {"token": token(0, "attribute", name), "name": name, "description": text} for name, text in ATTRIBUTES
        ],
        "visibility": [
            {"description": f"visibility of whole object is between {text}", "token": key, "level": level}
            for key, level, text in VISIBILITIES
        ],
        "sensor": [
            {"token": token(0, "sensor", channel), "channel": channel, "modality": modality}
            for channel, modality in channels
        ],
        "calibrated_sensor": [row for log in logs for row in _calibration(seed, log, image_size)],
        "log": [
            {
                "token": token(seed, "log", log.number),
                "logfile": log.logfile,
                "vehicle": log.vehicle,
                "date_captured": log.date,
                "location": log.location,
            }
            for log in logs
        ],
        "map": [
            {
                "category": "semantic_prior",
                "token": token(seed, "map", location),
                "filename": f"maps/{token(seed, 'map', location)}.png",
                "log_tokens": [token(seed, "log", log.number) for log in logs if log.location == location],
            }
            for location in sorted({log.location for log in logs})
        ],
    }


def _calibration(seed: int, log: LogPlan, image_size: tuple[int, int]) -> list[dict[str, Any]]:
    poses = {camera.name: camera.ego_from_camera for camera in CAMERAS} | {"LIDAR_TOP": EGO_FROM_LIDAR}
    intrinsics = {camera.name: camera.intrinsics(*image_size).tolist() for camera in CAMERAS}
    return [
        {
            "token": token(seed, "calibrated_sensor", log.number, channel),
            "sensor_token": token(0, "sensor", channel),
            "translation": list(pose.translation_m),
            "rotation": list(unit_rotations()[channel]),
            "camera_intrinsic": intrinsics.get(channel, []),
        }
        for channel, pose in poses.items()
    ]
