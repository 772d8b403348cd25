"""CAN bus messages of a scene in the files of nuScenes' CAN bus expansion."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import quaternion_from_heading
from sead_ray.synthetic.episode import Episode
from sead_ray.synthetic.rig import EGO_CENTRE_M, EGO_WHEELBASE_M

STEERING_RATIO = 15.2
WHEEL_ROUND_M = 1.93
GRAVITY_MPS2 = 9.81


def can_messages(episode: Episode, start_us: int, rng: np.random.Generator) -> dict[str, Any]:
    """Content of `<scene>_<message>.json` for each message that the world has.

    Args:
        start_us: global time of the episode's time 0.
    """
    first, last = episode.times_s[0] - 0.02, episode.times_s[-1] + 0.05
    pose = _pose(episode, np.arange(first, last, 0.02), start_us, rng)
    steering = _steering(episode, np.arange(first, last, 0.01), start_us, rng)
    monitor = _vehicle_monitor(episode, np.arange(first + 0.3, last, 0.5), start_us)
    ahead = episode.tracks.driver_states(0, np.arange(first - 1.0, last, 0.2))
    meta = {"POSE": _stats(pose), "SteerAngleFeedback": _stats(steering), "VEHICLE_MONITOR": _stats(monitor)}
    route = [[float(x), float(y)] for x, y in ahead[:, :2]]
    return {
        "pose": pose,
        "steeranglefeedback": steering,
        "vehicle_monitor": monitor,
        "meta": meta,
        "route": route,
    }


def _motion(episode: Episode, times_s: NDArray[np.float64]) -> tuple[NDArray, ...]:
    """x, y of the ego origin, heading, speed along it, acceleration, yaw rate."""
    x, y, heading, speed = episode.tracks.driver_states(0, times_s).T
    before, after = (episode.tracks.driver_states(0, times_s + shift) for shift in (-0.1, 0.1))
    yaw_rate = ((after[:, 2] - before[:, 2] + np.pi) % (2 * np.pi) - np.pi) / 0.2
    acceleration = (after[:, 3] - before[:, 3]) / 0.2
    x, y = x - EGO_CENTRE_M * np.cos(heading), y - EGO_CENTRE_M * np.sin(heading)
    return x, y, heading, speed, acceleration, yaw_rate


def _pose(episode: Episode, times_s: NDArray, start_us: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    x, y, heading, speed, acceleration, yaw_rate = _motion(episode, times_s)
    noise = rng.normal(0, 0.08, (len(times_s), 3))
    wobble = rng.normal(0, 0.004, (len(times_s), 3))
    out = []
    for i, time in enumerate(times_s):
        accel = np.array([acceleration[i], speed[i] * yaw_rate[i], GRAVITY_MPS2]) + noise[i] * min(
            1.0, 0.2 + speed[i] / 5
        )
        out.append(
            {
                "accel": accel.tolist(),
                "orientation": list(quaternion_from_heading(float(heading[i]))),
                "pos": [float(x[i]), float(y[i]), 0.0],
                "rotation_rate": (wobble[i] + [0, 0, yaw_rate[i]]).tolist(),
                "utime": start_us + round(time * 1e6),
                "vel": [float(speed[i]), 0.0, 0.0],
            }
        )
    return out


def _wheel_angle(episode: Episode, times_s: NDArray) -> NDArray[np.float64]:
    """Angle of the steering wheel in rad, positive to the left."""
    _, _, _, speed, _, yaw_rate = _motion(episode, times_s)
    return np.arctan(EGO_WHEELBASE_M * yaw_rate / np.maximum(speed, 0.5)) * STEERING_RATIO


def _steering(episode: Episode, times_s: NDArray, start_us: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    values = _wheel_angle(episode, times_s) + rng.normal(0, 0.01, len(times_s))
    return [{"utime": start_us + round(time * 1e6), "value": float(v)} for time, v in zip(times_s, values)]


def _vehicle_monitor(episode: Episode, times_s: NDArray, start_us: int) -> list[dict[str, Any]]:
    _, _, _, speed, acceleration, yaw_rate = _motion(episode, times_s)
    wheel = np.rad2deg(_wheel_angle(episode, times_s))
    later = np.rad2deg(_wheel_angle(episode, times_s + 0.1))
    out = []
    for i, time in enumerate(times_s):
        rpm = float(speed[i] / WHEEL_ROUND_M * 60)
        out.append(
            {
                "available_distance": 70,
                "battery_level": 80,
                "brake": int(max(0.0, -acceleration[i]) * 12),
                "brake_switch": 2 if acceleration[i] < -0.5 else 1,
                "gear_position": 7,
                "left_signal": int(wheel[i] > 60),
                "rear_left_rpm": rpm,
                "rear_right_rpm": rpm,
                "right_signal": int(wheel[i] < -60),
                "steering": float(wheel[i]),
                "steering_speed": float((later[i] - wheel[i]) * 10),
                "throttle": int(max(0.0, acceleration[i]) * 60),
                "utime": start_us + round(time * 1e6),
                "vehicle_speed": float(speed[i] * 3.6),
                "yaw_rate": float(np.rad2deg(yaw_rate[i])),
            }
        )
    return out


def _stats(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Summary of one message as in nuScenes' meta file."""
    times = np.array([message["utime"] for message in messages])
    span = float(times[-1] - times[0]) / 1e6
    stats = {}
    for key in messages[0]:
        values = np.array([message[key] for message in messages], np.float64)
        steps = np.diff(values, axis=0) if len(values) > 1 else np.zeros_like(values)
        stats[key] = {
            name: float(function(part))
            for part, suffix in ((values, ""), (steps, "_diff"))
            for name, function in (
                (f"{f.__name__.removeprefix('a')}{suffix}", f) for f in (np.max, np.mean, np.min, np.std)
            )
        }
    return {
        "message_count": len(messages),
        "message_freq": (len(messages) - 1) / span if span else 0.0,
        "timespan": span,
        "var_stats": stats,
    }
