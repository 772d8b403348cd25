"""What the recorded drive of a whole clip says of its frames: commands, ego states, Acc and Yaw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sead_ray.nuscenes.can_bus import CanPoses, CanSteering, yaw_rad
from sead_ray.nuscenes.commands import command_of, ego_future
from sead_ray.nuscenes.dynamics import dynamics_from_can, dynamics_from_poses
from sead_ray.nuscenes.ego_state import ego_states
from sead_ray.records import Frame


def driven_frames(
    frames: Sequence[Frame], can: CanPoses | None, steering: CanSteering | None, location: str
) -> tuple[Frame, ...]:
    """The frames with their commands and ego states."""
    global_from_lidar = np.stack([frame.global_from_lidar for frame in frames])
    states = ego_states(
        [frame.global_from_ego for frame in frames],
        global_from_lidar,
        [frame.timestamp_us for frame in frames],
        [frame.can_bus for frame in frames],
        can,
        steering,
        left_hand_traffic=location.startswith("singapore"),
    )
    return tuple(
        replace(frame, command=command_of(ego_future(global_from_lidar, index)[0]), ego_state=states[index])
        for index, frame in enumerate(frames)
    )


def clip_dynamics(frames: Sequence[Frame], can: CanPoses | None) -> tuple[float, float]:
    """Acc in m/s2 and Yaw in rad: from the CAN messages between the first and the last key frame, or from poses."""
    if can is not None:
        return dynamics_from_can(can.within(frames[0].timestamp_us, frames[-1].timestamp_us))
    return dynamics_from_poses(
        np.array([frame.timestamp_us for frame in frames], np.int64),
        np.stack([frame.global_from_ego.matrix for frame in frames]),
        np.array([yaw_rad(frame.global_from_ego.rotation_wxyz) for frame in frames]),
    )
