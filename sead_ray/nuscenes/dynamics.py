"""How lively a scene was driven: Acc and Yaw of SEAD's initial selection (sec. 3.2), from CAN or from ego poses.

The two sources do not mix (other rate, other noise): a clip says which one it used, and ranking stays within it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import wrap_angle
from sead_ray.nuscenes.can_bus import CanPoses


def dynamics_from_can(can: CanPoses) -> tuple[float, float]:
    """Acc in m/s2: standard deviation of the lateral (y) acceleration; Yaw in rad: sum of absolute yaw changes.

    Args:
        can: the messages between the scene's first and last key frame.
    """
    return float(can.motion[:, 1].std()), _absolute_turn(can.yaw_rad)


def dynamics_from_poses(
    timestamp_us: NDArray[np.int64], global_from_ego: NDArray[np.float64], yaw_rad: NDArray[np.float64]
) -> tuple[float, float]:
    """The same from key-frame poses, for scenes without CAN data.

    Estimator: the second difference of the position over the key frames (each interval with its own length), turned
    into the ego frame of the middle key frame; Acc is the standard deviation of its y component. Fewer than three
    key frames have no acceleration: 0.

    Args:
        timestamp_us: (T,).
        global_from_ego: (T, 4, 4).
        yaw_rad: (T,).
    """
    if len(timestamp_us) < 3:
        return 0.0, _absolute_turn(yaw_rad)
    time_s = (timestamp_us - timestamp_us[0]) * 1e-6
    interval_s = np.diff(time_s)
    velocity = np.diff(global_from_ego[:, :3, 3], axis=0) / interval_s[:, None]
    acceleration = np.diff(velocity, axis=0) / ((interval_s[1:] + interval_s[:-1]) / 2)[:, None]
    lateral = np.einsum("ti,ti->t", global_from_ego[1:-1, :3, 1], acceleration)
    return float(lateral.std()), _absolute_turn(yaw_rad)


def _absolute_turn(yaw_rad: NDArray[np.float64]) -> float:
    return float(np.abs(wrap_angle(np.diff(yaw_rad))).sum())
