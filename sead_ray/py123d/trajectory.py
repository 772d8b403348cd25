"""The ego's drive along a log: poses at any time, and what its motion sensors said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, composed, heading_from_quaternion
from sead_ray.nuscenes.can_bus import CanPoses
from sead_ray.py123d.arrow_log import EGO, ArrowLog

# DynamicStateSE3 is velocity, acceleration, angular velocity; a CAN vector acceleration, rotation rate, velocity.
_CAN_ORDER = (3, 4, 5, 6, 7, 8, 0, 1, 2)


@dataclass(frozen=True)
class Trajectory:
    """
    Attributes:
        timestamp_us: (n,), growing.
        global_from_imu: (n, 7) x, y, z, quaternion w, x, y, z.
        motion: (n, 9) in the order of `CanPoses`; None where the log has no dynamic states, or only of some rows, or
            zeros throughout, which is what py123d writes of nuScenes' scenes without CAN.
        imu_from_ego: the rear axle, on which nuScenes' ego frame sits.
    """

    timestamp_us: NDArray[np.int64]
    global_from_imu: NDArray[np.float64]
    motion: NDArray[np.float64] | None
    imu_from_ego: Pose

    def covers(self, timestamp_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (timestamp_us >= self.timestamp_us[0]) & (timestamp_us <= self.timestamp_us[-1])

    def global_from_ego(self, time_us: int) -> Pose:
        """Interpolated between the two states around the time; the first or last one beyond them."""
        after = int(np.clip(np.searchsorted(self.timestamp_us, time_us), 1, len(self.timestamp_us) - 1))
        start, stop = self.timestamp_us[after - 1], self.timestamp_us[after]
        share = float(np.clip((time_us - start) / (stop - start), 0.0, 1.0))
        before_pose, after_pose = self.global_from_imu[after - 1], self.global_from_imu[after]
        if share in (0.0, 1.0):
            x, y, z, qw, qx, qy, qz = (after_pose if share else before_pose).tolist()
            return composed(Pose((x, y, z), (qw, qx, qy, qz)), self.imu_from_ego)
        x, y, z = (before_pose[:3] + share * (after_pose[:3] - before_pose[:3])).tolist()
        turned = Slerp([0.0, 1.0], Rotation.from_quat(np.roll([before_pose[3:], after_pose[3:]], -1, axis=1)))
        qx, qy, qz, qw = turned([share])[0].as_quat().tolist()
        return composed(Pose((x, y, z), (qw, qx, qy, qz)), self.imu_from_ego)

    def motion_at(self, time_us: int) -> NDArray[np.float64]:
        """(9,) of the state closest in time; zeros without any."""
        if self.motion is None:
            return np.zeros(9)
        return self.motion[int(np.abs(self.timestamp_us - time_us).argmin())]

    def states(self, start_us: int, stop_us: int) -> CanPoses | None:
        """The states between two times in the place of CAN messages; None without motion or with fewer than three."""
        inside = (self.timestamp_us >= start_us) & (self.timestamp_us <= stop_us)
        if self.motion is None or inside.sum() < 3:
            return None
        yaw_rad = np.array([heading_from_quaternion(pose[3:]) for pose in self.global_from_imu[inside]])
        return CanPoses(self.timestamp_us[inside], self.motion[inside], yaw_rad)


def read_trajectory(log: ArrowLog, with_motion: bool) -> Trajectory:
    """The log's `ego_state_se3`.

    Raises:
        InputError: there is no such file, fewer than two states, a pose that is none, or time that goes backwards.
    """
    table = log.columns(EGO, ["timestamp_us", "imu_se3", "dynamic_state_se3"])
    path = log.path(EGO)
    if len(table) < 2:
        raise InputError(f"{path} holds {len(table)} ego state(s), too few for a drive.")
    times = table.column("timestamp_us").to_numpy()
    if len(backwards := np.flatnonzero(np.diff(times) <= 0)):
        raise InputError(f"Time goes backwards in {path} at {times[backwards[0] + 1]}.")
    poses = _numbers(table.column("imu_se3").to_pylist(), 7)
    lengths = np.linalg.norm(poses[:, 3:], axis=1)
    sound = np.isfinite(poses).all(axis=1) & (np.abs(lengths - 1) < 0.01)
    if not sound.all():
        raise InputError(
            f"{path} has no pose at {times[int(sound.argmin())]}: not seven finite numbers, or no rotation."
        )
    motion = _numbers(table.column("dynamic_state_se3").to_pylist(), 9)[:, _CAN_ORDER]
    rear_axle = pose_of(log.metadata(EGO).get("rear_axle_to_imu_se3"), f"rear_axle_to_imu_se3 of {path}")
    known = with_motion and bool(np.isfinite(motion).all() and motion.any())
    return Trajectory(times, poses, motion if known else None, rear_axle)


def pose_of(values: object, owner: str) -> Pose:
    """Seven numbers as a pose; `InputError` names the `owner` of others."""
    numbers = _numbers([values], 7)[0]
    if not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:]) - 1) > 0.01:
        raise InputError(f"{owner} is not a pose: it takes seven finite numbers, a unit quaternion last.")
    x, y, z, qw, qx, qy, qz = numbers.tolist()
    return Pose((x, y, z), (qw, qx, qy, qz))


def _numbers(rows: list, width: int) -> NDArray[np.float64]:
    """(n, width); NaN where a row is missing or has another width."""
    out = np.full((len(rows), width), np.nan)
    for index, row in enumerate(rows):
        if isinstance(row, (list, tuple)) and len(row) == width:
            out[index] = [np.nan if value is None else value for value in row]
    return out
