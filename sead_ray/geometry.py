"""Every coordinate frame, yaw convention and transform of the project; nowhere else.

Frames, as in nuScenes and VAD:
    global   metres, z up; heading counter-clockwise from +x.
    ego      the vehicle: x forward, y left, z up; origin on the ground below the rear axle.
    lidar    LIDAR_TOP: x right, y forward, z up. Boxes, maps, BEV and planned paths live in it.
    camera   x right, y down, z forward. image: pixels, u right, v down.

`b_from_a` is the 4x4 float64 matrix that takes homogeneous points of frame a to frame b.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """A rigid pose: the source frame's origin and axes in the target frame.

    Attributes:
        translation_m: x, y, z.
        rotation_wxyz: unit quaternion, scalar first, as in the nuScenes tables.
    """

    translation_m: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]

    @property
    def matrix(self) -> Array:
        """(4, 4) transform from the source to the target frame."""
        out = np.eye(4)
        out[:3, :3] = rotation_matrix(self.rotation_wxyz)
        out[:3, 3] = self.translation_m
        return out

    @property
    def heading_rad(self) -> float:
        return heading_from_quaternion(self.rotation_wxyz)


def composed(c_from_b: Pose, b_from_a: Pose) -> Pose:
    """The pose of a's axes in c."""
    x, y, z = transform_points(c_from_b.matrix, b_from_a.translation_m).tolist()
    qw, qx, qy, qz = quaternion_product(c_from_b.rotation_wxyz, b_from_a.rotation_wxyz).tolist()
    return Pose((x, y, z), (qw, qx, qy, qz))


def inverse(b_from_a: Pose) -> Pose:
    """The pose of b's axes in a."""
    x, y, z = invert(b_from_a.matrix)[:3, 3].tolist()
    qw, qx, qy, qz = b_from_a.rotation_wxyz
    return Pose((x, y, z), (qw, -qx, -qy, -qz))


def rotation_matrix(quaternion_wxyz: ArrayLike) -> Array:
    """(3, 3) rotation of a quaternion, normalised first (tables carry rounding)."""
    w, x, y, z = np.asarray(quaternion_wxyz, np.float64) / np.linalg.norm(quaternion_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def heading_from_quaternion(quaternion_wxyz: ArrayLike) -> float:
    """Heading in rad, (-pi, pi], counter-clockwise from +x: pyquaternion's `yaw_pitch_roll[0]`."""
    w, x, y, z = np.asarray(quaternion_wxyz, np.float64) / np.linalg.norm(quaternion_wxyz)
    return float(np.arctan2(2 * (w * z - x * y), 1 - 2 * (y * y + z * z)))


def quaternion_from_heading(heading_rad: float) -> tuple[float, float, float, float]:
    """Rotation about z only, scalar first."""
    return (float(np.cos(heading_rad / 2)), 0.0, 0.0, float(np.sin(heading_rad / 2)))


def quaternions_from_headings(headings_rad: ArrayLike) -> Array:
    """(..., 4) of (...) headings: rotations about z only, scalar first."""
    half = np.asarray(headings_rad, np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def quaternion_product(first_wxyz: ArrayLike, second_wxyz: ArrayLike) -> Array:
    """(..., 4) Hamilton product: the rotation that turns by the second, then by the first."""
    w1, x1, y1, z1 = np.moveaxis(np.asarray(first_wxyz, np.float64), -1, 0)
    w2, x2, y2, z2 = np.moveaxis(np.asarray(second_wxyz, np.float64), -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )


def invert(transform: ArrayLike) -> Array:
    """Inverse of a rigid (..., 4, 4) transform."""
    transform = np.asarray(transform, np.float64)
    rotation_t = np.swapaxes(transform[..., :3, :3], -1, -2)
    out = np.zeros_like(transform)
    out[..., :3, :3] = rotation_t
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation_t, transform[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def transform_points(target_from_source: ArrayLike, points: ArrayLike) -> Array:
    """(..., 3) points of the source frame in the target frame."""
    matrix = np.asarray(target_from_source, np.float64)
    return np.asarray(points, np.float64) @ matrix[:3, :3].T + matrix[:3, 3]


def wrap_angle(angle_rad: ArrayLike) -> Array:
    """Angles folded into [-pi, pi)."""
    folded = (np.asarray(angle_rad, np.float64) + np.pi) % (2 * np.pi) - np.pi
    return np.where(folded >= np.pi, -np.pi, folded)  # the remainder of a tiny negative number rounds up to 2 pi


def vad_yaw_from_heading(heading_rad: ArrayLike) -> Array:
    """VAD stores yaw = -heading - pi/2 (mmdetection3d before 1.0); its own inverse."""
    return -np.asarray(heading_rad, np.float64) - np.pi / 2


heading_from_vad_yaw = vad_yaw_from_heading


def global_heading_from_vad_yaw(vad_yaw_rad: ArrayLike, global_from_lidar: ArrayLike) -> Array:
    """Heading in the global frame of boxes that stand upright there, from VAD's yaw in the (tilted) lidar frame.

    Exact: VAD's yaw is read from the first row of the rotated box's matrix, in which only this angle is lost.
    """
    rotation = np.asarray(global_from_lidar, np.float64)
    return heading_from_vad_yaw(vad_yaw_rad) + np.arctan2(rotation[1, 0], rotation[0, 0])


def image_from_lidar(
    intrinsics: ArrayLike,
    ego_from_camera: ArrayLike,
    global_from_ego_at_camera: ArrayLike,
    global_from_ego_at_lidar: ArrayLike,
    ego_from_lidar: ArrayLike,
    scale: float = 1.0,
) -> Array:
    """(4, 4) lidar2img with the ego motion between the camera's and the lidar's time stamps.

    `scale` is the resize factor of the image; zero padding below and to the right changes nothing.
    """
    camera_from_lidar = (
        invert(ego_from_camera)
        @ invert(global_from_ego_at_camera)
        @ np.asarray(global_from_ego_at_lidar, np.float64)
        @ np.asarray(ego_from_lidar, np.float64)
    )
    projection = np.eye(4)
    projection[:3, :3] = intrinsics
    return np.diag([scale, scale, 1.0, 1.0]) @ projection @ camera_from_lidar


def box_corners_bev(center_xy: ArrayLike, length: float, width: float, heading_rad: float) -> Array:
    """(4, 2) ground-plane corners, front-left first, clockwise."""
    along = np.array([np.cos(heading_rad), np.sin(heading_rad)]) * length / 2
    across = np.array([-np.sin(heading_rad), np.cos(heading_rad)]) * width / 2
    center = np.asarray(center_xy, np.float64)
    return np.stack(
        [center + along + across, center + along - across, center - along - across, center - along + across]
    )
