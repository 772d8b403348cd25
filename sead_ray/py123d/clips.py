"""A py123d log as clips. Nothing here opens a file of boxes or a map."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.geometry import Pose, composed, inverse, quaternion_from_heading, rotation_matrix
from sead_ray.nuscenes.can_bus import can_vector
from sead_ray.nuscenes.commands import behaviour_of
from sead_ray.nuscenes.drive import clip_dynamics, driven_frames
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.cameras import LogCamera, camera_modalities, image_rows, read_camera
from sead_ray.py123d.key_frames import clip_rows
from sead_ray.py123d.trajectory import Trajectory, pose_of, read_trajectory
from sead_ray.records import Clip, Command, Frame

# Where a log says nothing of a lidar: nuScenes' mounting.
NUSCENES_LIDAR = Pose((0.94, 0.0, 1.84), quaternion_from_heading(-np.pi / 2))
_LIDAR_TOP = 2  # py123d's LidarID


@dataclass(frozen=True)
class LogClips:
    """The clips of one log.

    Every quantity is nuScenes' own: the ego frame sits on the rear axle, the lidar frame has x to the right and y
    ahead, commands and behaviour come from the drive. Light and weather are unknown, and count as day and sunny.
    """

    log: ArrowLog
    data: DataConfig

    @cached_property
    def trajectory(self) -> Trajectory:
        return read_trajectory(self.log, with_motion=self.data.can_bus == "auto")

    @cached_property
    def rows(self) -> list[list[int]]:
        """Rows of `sync` of each clip."""
        modalities = camera_modalities(self.log, self.data.cameras).values()
        rows_of = {modality: image_rows(self.log, modality) for modality in modalities}
        return clip_rows(self.log, self.trajectory, rows_of, self.data.clip_frames)

    @cached_property
    def cameras(self) -> list[LogCamera]:
        """In VAD's order; `InputError` where they differ in size, since they share a batch."""
        modalities = camera_modalities(self.log, self.data.cameras)
        ego = self.trajectory.imu_from_ego
        found = [read_camera(self.log, name, modality, ego) for name, modality in modalities.items()]
        for camera in found[1:]:
            if (camera.width, camera.height) != (found[0].width, found[0].height):
                raise InputError(
                    f"Log {self.log.name}: {camera.modality} has images of {camera.width} x {camera.height}, but "
                    f"{found[0].modality} of {found[0].width} x {found[0].height}: data.cameras must name six alike."
                )
        return found

    def clips(self, role: Literal["pool", "val"]) -> list[Clip]:
        """In the order of time."""
        return [self._clip(number, rows, role) for number, rows in enumerate(self.rows)]

    def _clip(self, number: int, rows: list[int], role: str) -> Clip:
        location = str(self.log.metadata().get("location") or "unknown")
        frames = driven_frames([self._frame(row) for row in rows], None, None, location)
        states = self.trajectory.states(frames[0].timestamp_us, frames[-1].timestamp_us)
        acc, yaw = clip_dynamics(frames, states)
        return Clip(
            clip_token=f"{self.log.name}-{frames[0].timestamp_us}",
            name=self.log.name if len(self.rows) == 1 else f"{self.log.name}-{number:03d}",
            log_token=self.log.name,
            location=location,
            split=role,
            description="",
            is_night=False,
            is_rainy=False,
            behaviour=behaviour_of([frame.command for frame in frames], self.data.overtake_frames),
            acc_std_mps2=acc,
            yaw_sum_rad=yaw,
            dynamics_source="pose" if states is None else "can",
            frames=frames,
        )

    def _frame(self, row: int) -> Frame:
        time_us = self.log.sync.column("timestamp_us")[row].as_py()
        global_from_ego = self.trajectory.global_from_ego(time_us)
        return Frame(
            token=frame_token(self.log, row),
            timestamp_us=time_us,
            global_from_ego=global_from_ego,
            ego_from_lidar=self._ego_from_lidar,
            can_bus=can_vector(global_from_ego, self.trajectory.motion_at(time_us)),
            command=Command.STRAIGHT,  # known once the whole clip is: `driven_frames`
            cameras=tuple(camera.camera(row, self.trajectory) for camera in self.cameras),
        )

    @cached_property
    def _ego_from_lidar(self) -> Pose:
        """The upper lidar's place; its axes where y points ahead as on nuScenes' cars, else turned so."""
        found = _lidars(self.log)
        if not found:
            return NUSCENES_LIDAR
        imu_from_lidar = found.get(_LIDAR_TOP, found[min(found)])
        pose = composed(inverse(self.trajectory.imu_from_ego), imu_from_lidar)
        ahead = rotation_matrix(pose.rotation_wxyz)[0, 1]
        return pose if ahead > np.cos(np.radians(10)) else Pose(pose.translation_m, NUSCENES_LIDAR.rotation_wxyz)


def frame_token(log: ArrowLog, row: int) -> str:
    """py123d's UUID of the row, by which annotators and py123d itself find the frame."""
    value = log.sync.column("uuid")[row].as_py()
    return str(value if isinstance(value, uuid.UUID) else uuid.UUID(bytes=value))


def _lidars(log: ArrowLog) -> dict[int, Pose]:
    """Mounting of each lidar in the IMU's frame, by py123d's LidarID."""
    found: dict[int, Pose] = {}
    for modality in log.modalities:
        if not modality.startswith("lidar."):
            continue
        facts = log.metadata(modality)
        each = [facts] if "lidar_id" in facts else list(facts.values())  # a merged cloud has one entry a sensor
        for lidar in each:
            owner = f"lidar_to_imu_se3 of {log.path(modality)}"
            found[int(lidar["lidar_id"])] = pose_of(lidar.get("lidar_to_imu_se3"), owner)
    return found
