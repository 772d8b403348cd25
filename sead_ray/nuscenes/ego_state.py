"""VAD's ego status of a key frame, `gt_ego_lcf_feat`. Free data; VAD's published models do not read it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import CanPoses, CanSteering
from sead_ray.nuscenes.commands import ego_future, ego_history

EGO_LENGTH_M, EGO_WIDTH_M = 4.084, 1.85  # VAD's converter
WHEELBASE_M = 2.588  # VAD's converter
STEP_S = 0.5  # upstream divides by the nominal interval, whatever the time stamps say

Array = NDArray[np.float64]


def ego_states(
    global_from_ego: Sequence[Pose],
    global_from_lidar: Array,
    timestamp_us: Sequence[int],
    can_vectors: Sequence[Array],
    can: CanPoses | None,
    steering: CanSteering | None,
    left_hand_traffic: bool,
) -> list[Array]:
    """(9,) for each of a clip's T key frames: vx, vy in m/s, ax, ay in m/s2, yaw rate in rad/s, length, width in m,
    speed in m/s, curvature.

    Speed and curvature are those of the CAN messages closest in time. Without them, as upstream, the speed is the
    length of the last and the next step together (over one second) and the curvature 0.

    Args:
        global_from_ego, timestamp_us: T poses and time stamps; global_from_lidar: (T, 4, 4).
        can_vectors: T vectors of `can_bus_vector`.
        left_hand_traffic: steering is counted the other way round there (Singapore).
    """
    yaw = [_upstream_yaw(pose) for pose in global_from_ego]
    xy = np.array([pose.translation_m[:2] for pose in global_from_ego])
    states = []
    for index, time_us in enumerate(timestamp_us):
        before, after = (index - 1, index) if index else (0, min(1, len(yaw) - 1))
        speed_mps = float(np.linalg.norm(xy[after] - xy[before])) / STEP_S
        state = np.zeros(9)
        state[0:2] = speed_mps * np.cos(yaw[index] + np.pi / 2), speed_mps * np.sin(yaw[index] + np.pi / 2)
        state[2:4] = can_vectors[index][7:9]
        state[4] = (yaw[after] - yaw[before]) / STEP_S
        state[5:7] = EGO_LENGTH_M, EGO_WIDTH_M
        if can is not None and steering is not None:
            state[7] = can.motion[closest(can.timestamp_us, time_us), 6]
            angle_rad = steering.angle_rad[closest(steering.timestamp_us, time_us)]
            state[8] = 2 * (-angle_rad if left_hand_traffic else angle_rad) / WHEELBASE_M
        else:
            last, future = ego_history(global_from_lidar, index)[0][-1], ego_future(global_from_lidar, index)[0][0]
            state[7] = float(np.linalg.norm(last + future))
        states.append(state)
    return states


def closest(timestamp_us: NDArray[np.int64], time_us: int) -> int:
    """Index of the message closest to a time; the later one of two equally close."""
    after = int(np.searchsorted(timestamp_us, time_us))
    if after == len(timestamp_us) or (after > 0 and time_us - timestamp_us[after - 1] < timestamp_us[after] - time_us):
        return after - 1
    return after


def _upstream_yaw(pose: Pose) -> float:
    """The angle that VAD's converter takes for the yaw: it reads the table's quaternion w, x, y, z as x, y, z, w.

    So vx, vy and the yaw rate of its infos are not the vehicle's; reproduced, since models that read them learned it.
    """
    x, y, z, w = pose.rotation_wxyz
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (z * z + y * y)))
