from __future__ import annotations

import json

import numpy as np
import pytest

from sead_ray.errors import InputError
from sead_ray.evaluation.baselines import constant_velocity_plans, standing_still_plans
from sead_ray.evaluation.planning import FramePlanning
from sead_ray.evaluation.slices import SLICES, evaluation_report, slice_table
from sead_ray.geometry import Pose, invert, quaternion_from_heading
from sead_ray.records import Clip, Command, Frame

# as on nuScenes' car: the lidar ahead of the ego origin, its x to the right
EGO_FROM_LIDAR = Pose((0.94, 0.0, 1.84), quaternion_from_heading(-np.pi / 2))


def frame(index: int, position_m: tuple[float, float], heading: float, time_s: float, speed_mps: float = 0.0) -> Frame:
    can_bus = np.zeros(18)
    can_bus[13] = speed_mps
    pose = Pose((*position_m, 0.0), quaternion_from_heading(heading))
    return Frame(f"frame-{index}", int(time_s * 1e6), pose, EGO_FROM_LIDAR, can_bus, Command.STRAIGHT, ())


def clip(token: str = "clip", frames: tuple[Frame, ...] = (), **changes) -> Clip:
    values = {
        "name": token,
        "log_token": "log",
        "location": "here",
        "split": "val",
        "description": "",
        "is_night": False,
        "is_rainy": False,
        "behaviour": "straight",
        "acc_std_mps2": 0.0,
        "yaw_sum_rad": 0.0,
        "dynamics_source": "pose",
    }
    return Clip(clip_token=token, frames=frames, **{**values, **changes})


def straight_drive(speed_mps: float, heading: float, times_s: list[float]) -> Clip:
    direction = np.array([np.cos(heading), np.sin(heading)])
    return clip(
        frames=tuple(
            frame(i, tuple(100 + speed_mps * time * direction), heading, time, speed_mps)
            for i, time in enumerate(times_s)
        )
    )


@pytest.mark.parametrize("heading", [0.0, 0.8, -2.5])
def test_constant_velocity_is_exact_on_a_straight_uniform_drive(heading: float):
    plans = constant_velocity_plans(straight_drive(8.0, heading, [0.0, 0.5, 1.0, 1.5]))
    assert plans.shape == (4, 6, 2)
    # forward is +y of the lidar; 8 m/s in steps of 0.5 s, on the first frame from the CAN vector
    np.testing.assert_allclose(plans, np.broadcast_to([0.0, 4.0], plans.shape), atol=1e-6)


def test_constant_velocity_predicts_the_recorded_lidar_positions():
    drive = straight_drive(6.0, 1.1, [0.5 * i for i in range(9)])
    now, later = drive.frames[2].global_from_lidar, drive.frames[8].global_from_lidar
    expected = (invert(now) @ later)[:2, 3]
    np.testing.assert_allclose(constant_velocity_plans(drive)[2].sum(axis=0), expected, atol=1e-6)


def test_constant_velocity_counts_key_frames_not_seconds():
    plans = constant_velocity_plans(straight_drive(8.0, 0.3, [0.0, 0.4, 1.0, 2.0]))
    np.testing.assert_allclose(plans[:, 0, 1], [4.0, 3.2, 4.8, 8.0], atol=1e-6)


def test_without_can_data_the_first_frame_stands_still():
    drive = clip(frames=(frame(0, (0.0, 0.0), 0.0, 0.0), frame(1, (3.0, 0.0), 0.0, 0.5)))
    plans = constant_velocity_plans(drive)
    assert not plans[0].any()
    np.testing.assert_allclose(plans[1], np.tile([0.0, 3.0], (6, 1)), atol=1e-9)


def test_standing_still_moves_nowhere():
    plans = standing_still_plans(straight_drive(8.0, 0.0, [0.0, 0.5]))
    assert plans.shape == (2, 6, 2)
    assert not plans.any()


def record(clip_token: str, l2_m: float, token: str, valid: bool = True) -> FramePlanning:
    return FramePlanning(clip_token, token, 2, valid, (l2_m,) * 6, (l2_m > 2,) * 6)


CLIPS = [
    clip("night-left", is_night=True, behaviour="left"),
    clip("rain-overtake", is_rainy=True, behaviour="overtake"),
    clip("day-straight"),
]
RECORDS = [
    record("night-left", 1.0, "a"),
    record("night-left", 3.0, "b"),
    record("rain-overtake", 5.0, "c"),
    record("day-straight", 7.0, "d"),
    record("day-straight", 100.0, "e", valid=False),
]


def test_slices_are_those_of_table_2():
    table = slice_table(RECORDS, CLIPS)
    assert list(table) == list(SLICES)
    frames = {name: row["n_frames"] for name, row in table.items()}
    assert frames == {
        "Day": 2,
        "Night": 2,
        "Sunny": 3,
        "Rainy": 1,
        "Go Straight": 1,
        "Turn Left": 2,
        "Turn Right": 0,
        "Overtake": 1,
        "All": 4,
    }
    assert table["Night"] == {"l2_avg_m": 2.0, "collision_avg_percent": 50.0, "n_frames": 2}
    assert table["All"]["l2_avg_m"] == 4.0
    assert table["Turn Right"]["l2_avg_m"] is None


def test_a_record_of_an_unknown_clip_is_refused():
    with pytest.raises(InputError, match="stranger"):
        slice_table([record("stranger", 1.0, "x")], CLIPS)


def test_the_report_holds_planner_baselines_and_slices():
    still = [record(r.clip_token, 9.0, r.frame_token, r.valid) for r in RECORDS]
    report = json.loads(json.dumps(evaluation_report(RECORDS, still, RECORDS[::-1], CLIPS)))
    assert set(report) == {"planner", "standing_still", "constant_velocity", "slices", "clips"}
    assert set(report["planner"]["l2_m"]) == {"1s", "2s", "3s", "avg"}
    assert report["standing_still"]["l2_m"]["avg"] == 9.0
    assert report["constant_velocity"] == report["planner"]
    assert report["slices"]["All"]["n_frames"] == report["planner"]["n_frames"] == 4


def test_baselines_must_be_measured_on_the_same_frames():
    with pytest.raises(InputError, match="standing_still"):
        evaluation_report(RECORDS, RECORDS[:2], RECORDS, CLIPS)
