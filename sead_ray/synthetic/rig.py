"""The sensor rig: nuScenes' calibration of six cameras and LIDAR_TOP, rounded; intrinsics at 1600 x 900."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose


@dataclass(frozen=True)
class CameraSpec:
    """One camera. `delay_us`: its time stamp relative to the lidar's, as the spinning beam triggers it."""

    name: str
    ego_from_camera: Pose
    focal_px: float
    centre_px: tuple[float, float]
    delay_us: int

    def intrinsics(self, width: int, height: int) -> NDArray[np.float64]:
        """(3, 3) at an image size."""
        sx, sy = width / 1600, height / 900
        u, v = self.centre_px
        return np.array([[self.focal_px * sx, 0.0, u * sx], [0.0, self.focal_px * sy, v * sy], [0.0, 0.0, 1.0]])


CAMERAS = (
    CameraSpec(
        "CAM_FRONT",
        Pose((1.7008, 0.0159, 1.5110), (0.49980, -0.50303, 0.49978, -0.49737)),
        1266.417,
        (816.267, 491.507),
        -35_200,
    ),
    CameraSpec(
        "CAM_FRONT_RIGHT",
        Pose((1.5508, -0.4934, 1.4957), (0.20603, -0.20269, 0.68245, -0.67136)),
        1260.847,
        (807.968, 495.334),
        -27_400,
    ),
    CameraSpec(
        "CAM_FRONT_LEFT",
        Pose((1.5239, 0.4946, 1.5093), (0.67573, -0.67363, 0.21214, -0.21123)),
        1272.598,
        (826.615, 479.752),
        -42_800,
    ),
    CameraSpec(
        "CAM_BACK",
        Pose((0.0283, 0.0035, 1.5791), (0.50379, -0.49740, -0.49419, 0.50455)),
        809.221,
        (829.220, 481.778),
        -10_000,
    ),
    CameraSpec(
        "CAM_BACK_LEFT",
        Pose((1.0357, 0.4848, 1.5910), (0.69242, -0.70316, -0.11648, 0.11203)),
        1256.741,
        (792.113, 492.776),
        -300,
    ),
    CameraSpec(
        "CAM_BACK_RIGHT",
        Pose((1.0149, -0.4806, 1.5624), (0.12281, -0.13240, -0.70043, 0.69050)),
        1259.514,
        (807.253, 501.196),
        -19_500,
    ),
)
EGO_FROM_LIDAR = Pose((0.943713, 0.0, 1.84023), (0.7077955, -0.0064922, 0.0106462, -0.7063073))
EGO_LENGTH_M, EGO_WIDTH_M, EGO_HEIGHT_M = 4.084, 1.73, 1.56
EGO_WHEELBASE_M = 2.588
EGO_CENTRE_M = 1.25  # of its body, ahead of the rear axle


@lru_cache(maxsize=1)
def unit_rotations() -> dict[str, tuple[float, float, float, float]]:
    """Quaternions of all sensors, normalised to double precision."""
    poses = {camera.name: camera.ego_from_camera for camera in CAMERAS} | {"LIDAR_TOP": EGO_FROM_LIDAR}
    out = {}
    for name, pose in poses.items():
        w, x, y, z = (np.asarray(pose.rotation_wxyz) / np.linalg.norm(pose.rotation_wxyz)).tolist()
        out[name] = (w, x, y, z)
    return out
