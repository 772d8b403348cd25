"""CAN `pose` messages and VAD's 18-number vector. The files are those that the devkit's `NuScenesCanBus` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, rotation_matrix
from sead_ray.storage import Store

FOLDER = "can_bus"
# NuScenesCanBus.can_blacklist: scenes that were driven without CAN logging.
SCENES_WITHOUT_CAN = frozenset([*range(161, 169), *range(170, 177), *range(309, 315)])
MESSAGES = (
    "ms_imu",
    "pose",
    "steeranglefeedback",
    "vehicle_monitor",
    "zoesensors",
    "zoe_veh_info",
    "meta",
    "route",
)


@dataclass(frozen=True)
class CanPoses:
    """A scene's `pose` messages in the order of time.

    Attributes:
        timestamp_us: (n,) int64.
        motion: (n, 9) acceleration m/s2, rotation rate rad/s, velocity m/s; each x, y, z in the ego frame.
        yaw_rad: (n,) in the global frame.
    """

    timestamp_us: NDArray[np.int64]
    motion: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]

    def within(self, start_us: int, stop_us: int) -> CanPoses:
        inside = (self.timestamp_us >= start_us) & (self.timestamp_us <= stop_us)
        return CanPoses(self.timestamp_us[inside], self.motion[inside], self.yaw_rad[inside])


@dataclass(frozen=True)
class CanSteering:
    """A scene's `steeranglefeedback` messages in the order of time: (n,) int64, (n,) rad, positive to the left."""

    timestamp_us: NDArray[np.int64]
    angle_rad: NDArray[np.float64]


def require_folder(store: Store) -> None:
    if not store.exists(FOLDER):
        raise InputError(
            f"{store.path(FOLDER)} does not exist: unpack the CAN bus expansion there, or set data.can_bus=off."
        )


def read_can_poses(store: Store, scene_name: str, start_us: int, stop_us: int) -> CanPoses | None:
    """The scene's messages, or None where the scene has no CAN data at all.

    A scene with other CAN files but no `pose`, or without a message between its first and last key frame, is
    damaged rather than bare: `InputError` names the file.
    """
    if _on_blacklist(scene_name):
        return None
    key = f"{FOLDER}/{scene_name}_pose.json"
    if not store.exists(key):
        others = [name for name in MESSAGES if store.exists(f"{FOLDER}/{scene_name}_{name}.json")]
        if not others:
            return None
        raise InputError(f"{store.path(key)} is missing, while {scene_name}_{others[0]}.json is there.")
    messages = _messages(store, key)
    try:
        poses = CanPoses(
            np.array([message["utime"] for message in messages], np.int64),
            np.array(
                [[*message["accel"], *message["rotation_rate"], *message["vel"]] for message in messages], np.float64
            ).reshape(len(messages), 9),
            np.array([_message_yaw(message) for message in messages], np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{store.path(key)} holds a message that is not a CAN pose ({error}).") from None
    _check_series(poses.timestamp_us, np.column_stack([poses.motion, poses.yaw_rad]), store.path(key))
    if len(poses.within(start_us, stop_us).timestamp_us) == 0:
        raise InputError(f"{store.path(key)} has no message between the first and the last key frame of {scene_name}.")
    return poses


def read_can_steering(store: Store, scene_name: str) -> CanSteering | None:
    """The scene's steering messages, or None where it has no such file, or an empty one."""
    key = f"{FOLDER}/{scene_name}_steeranglefeedback.json"
    if _on_blacklist(scene_name) or not store.exists(key):
        return None
    messages = _messages(store, key)
    if not messages:
        return None
    try:
        steering = CanSteering(
            np.array([message["utime"] for message in messages], np.int64),
            np.array([message["value"] for message in messages], np.float64),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{store.path(key)} holds a message that is not a steering angle ({error}).") from None
    _check_series(steering.timestamp_us, steering.angle_rad, store.path(key))
    return steering


def _on_blacklist(scene_name: str) -> bool:
    number = scene_name.rsplit("-", 1)[-1]
    return number.isdigit() and int(number) in SCENES_WITHOUT_CAN


def _messages(store: Store, key: str) -> list[dict[str, Any]]:
    messages = store.read_json(key)
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise InputError(f"{store.path(key)} is not a list of CAN messages.")
    return messages


def _message_yaw(message: dict[str, Any]) -> float:
    with np.errstate(invalid="ignore"):  # a zero quaternion gives NaN, which `_check_series` refuses
        return yaw_rad(message["orientation"])


def _check_series(timestamp_us: NDArray[np.int64], values: NDArray[np.float64], path: str) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds a number that is not finite.")
    backwards = np.flatnonzero(np.diff(timestamp_us) < 0)
    if len(backwards):
        raise InputError(f"Time goes backwards in {path} at utime {timestamp_us[backwards[0] + 1]}.")


def yaw_rad(quaternion_wxyz: Sequence[float]) -> float:
    """Direction of the x axis in the ground plane (the devkit's `quaternion_yaw`), (-pi, pi]."""
    forward = rotation_matrix(quaternion_wxyz)[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def can_bus_vector(timestamp_us: int, global_from_ego: Pose, can: CanPoses | None) -> NDArray[np.float64]:
    """(18,) VAD's vector, absolute: translation 3, quaternion w x y z, acceleration 3, rotation rate 3, velocity 3,
    yaw in rad (0..2 pi), yaw in degrees.

    [7:16] come from the first message AFTER the key frame (VAD's converter reads its loop variable one step late;
    the published weights know it so), the last one where none follows; zeros without CAN data.
    """
    rates = np.zeros(9)
    if can is not None:
        after = int(np.searchsorted(can.timestamp_us, timestamp_us, side="right"))
        rates = can.motion[min(after, len(can.timestamp_us) - 1)]
    return can_vector(global_from_ego, rates)


def can_vector(global_from_ego: Pose, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """(18,) the same from its parts: (9,) acceleration, rotation rate and velocity."""
    yaw = yaw_rad(global_from_ego.rotation_wxyz) % (2 * np.pi)
    return np.array([*global_from_ego.translation_m, *global_from_ego.rotation_wxyz, *rates, yaw, np.degrees(yaw)])
