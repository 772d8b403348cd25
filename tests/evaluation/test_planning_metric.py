"""The planning metric on scenes whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sead_ray.evaluation.planning import (
    FramePlanning,
    agent_occupancy,
    batch_planning,
    box_collisions,
    frame_planning,
    summarise,
)
from sead_ray.targets import MAP_ORDERS, FrameTargets

CAR, PEDESTRIAN, CONE = 17, 2, 12  # rows of the lidarseg-expanded category table
STILL = np.zeros((6, 2), np.float32)
FORWARD = np.tile(np.array([0.0, 5.0], np.float32), (6, 1))


def target(*agents: tuple, ego_future: np.ndarray = FORWARD, valid: bool = True, command: int = 2) -> FrameTargets:
    """Agents are (x, y, width, length, heading, category, step offset, valid steps)."""
    boxes = np.zeros((len(agents), 9), np.float32)
    attributes = np.zeros((len(agents), 34), np.float32)
    for row, (x, y, width, length, heading, category, offset, steps) in enumerate(agents):
        boxes[row] = [x, y, 0, width, length, 1.5, -heading - np.pi / 2, 0, 0]
        attributes[row, :12] = np.tile(offset, 6)
        attributes[row, 12:18] = np.arange(6) < steps
        attributes[row, 27] = category
    return FrameTargets(
        boxes=boxes,
        labels=np.zeros(len(agents), np.int64),
        attributes=attributes,
        map_points=np.zeros((0, MAP_ORDERS, 20, 2), np.float32),
        map_labels=np.zeros(0, np.int64),
        ego_future=ego_future,
        ego_future_mask=np.ones(6, np.float32),
        command=command,
        future_valid=valid,
    )


def car(x: float, y: float, heading: float = np.pi / 2, offset=(0.0, 0.0), steps: int = 6, category: int = CAR):
    return (x, y, 2.0, 4.5, heading, category, offset, steps)


def test_l2_is_the_mean_over_the_steps_up_to_the_horizon():
    record = frame_planning(STILL, target())
    assert record.step_l2_m == (5, 10, 15, 20, 25, 30)
    assert record.l2_m == pytest.approx((7.5, 12.5, 17.5))
    assert record.uniad_l2_m == (10, 20, 30)
    assert frame_planning(FORWARD, target()).l2_m == (0, 0, 0)


def test_a_standing_ego_is_hit_by_a_car_on_its_place():
    record = frame_planning(STILL, target(car(0.0, 0.5)))
    assert record.step_collision == (True,) * 6
    assert record.obj_box_col == (1, 1, 1)
    assert frame_planning(STILL, target(car(0.0, 15.0))).obj_box_col == (0, 0, 0)
    assert frame_planning(STILL, target(car(0.0, 0.5, category=CONE))).obj_box_col == (0, 0, 0)
    assert frame_planning(STILL, target(car(0.0, 0.5, category=PEDESTRIAN))).obj_box_col == (1, 1, 1)


def test_a_car_arriving_later_collides_only_then():
    arriving = car(0.0, 31.0, offset=(0.0, -6.0))  # at y = 25, 19, 13, 7, 1, -5
    away = np.tile(np.array([20.0, 0.0], np.float32), (6, 1))
    record = frame_planning(STILL, target(arriving, ego_future=away))
    assert record.step_collision == (False, False, False, False, True, False)
    assert record.obj_box_col == pytest.approx((0, 0, 1 / 6))
    assert record.uniad_obj_box_col == (0, 0, 0)


def test_steps_at_which_the_driven_path_collides_are_not_counted():
    record = frame_planning(STILL, target(car(0.0, 0.5), ego_future=STILL))
    assert record.step_collision == (False,) * 6
    assert record.valid


def test_unknown_steps_are_not_drawn():
    away = np.tile(np.array([20.0, 0.0], np.float32), (6, 1))
    record = frame_planning(STILL, target(car(0.0, 0.5, steps=3), ego_future=away))
    assert record.step_collision == (True, True, True, False, False, False)


def test_occupancy_has_the_size_and_place_of_the_box():
    scene = target((10.0, 20.0, 2.0, 4.0, np.pi / 2, CAR, (0.0, 0.0), 6))
    grid = agent_occupancy(scene.boxes, scene.attributes)
    rows, columns = np.nonzero(grid[0])
    # rows run from +y = 50 m down, columns from x = -50 m; the outline belongs to the box
    assert (rows.min(), rows.max()) == (56, 64)
    assert (columns.min(), columns.max()) == (118, 122)
    scene = target((10.0, 20.0, 2.0, 4.0, 0.0, CAR, (0.0, 0.0), 6))
    rows, columns = np.nonzero(agent_occupancy(scene.boxes, scene.attributes)[0])
    assert (rows.min(), rows.max()) == (58, 62)
    assert (columns.min(), columns.max()) == (116, 124)


def test_the_ego_box_reaches_its_own_cells_only():
    grid = np.zeros((1, 200, 200), np.uint8)
    at = np.zeros((1, 2), np.float32)
    grid[0, 200 - 101, 99] = 1
    assert box_collisions(at, grid).tolist() == [True]
    assert box_collisions(at + np.float32([3.0, 0.0]), grid).tolist() == [False]
    assert box_collisions(at + np.float32([0.0, 6.0]), grid).tolist() == [False]


def test_a_plan_beyond_the_grid_is_no_error():
    far = np.tile(np.array([400.0, -400.0], np.float32), (6, 1))
    assert frame_planning(far, target(car(0.0, 0.5))).step_collision == (False,) * 6


def test_inputs_are_not_changed_and_a_second_call_agrees():
    scene, plan = target(car(0.0, 0.5, heading=0.7), car(3.0, 9.0)), STILL.copy()
    before = (scene.boxes.copy(), scene.attributes.copy(), scene.ego_future.copy())
    first, second = frame_planning(plan, scene), frame_planning(plan, scene)
    assert first == second
    for array, copy in zip((scene.boxes, scene.attributes, scene.ego_future, plan), (*before, STILL)):
        assert np.array_equal(array, copy)


def test_a_batch_takes_each_frames_commanded_plan():
    plans = np.zeros((2, 3, 6, 2), np.float32)
    plans[0, 1], plans[1, 2] = FORWARD, FORWARD
    records = batch_planning(plans, [target(command=1), target(command=0)], ["c", "d"], ["f", "g"])
    assert [record.l2_m[0] for record in records] == [0, 7.5]
    assert [(record.clip_token, record.frame_token, record.command) for record in records] == [
        ("c", "f", 1),
        ("d", "g", 0),
    ]


def test_frames_without_a_whole_future_are_not_counted():
    records = [frame_planning(STILL, target()), frame_planning(STILL, target(valid=False))]
    assert [record.valid for record in records] == [True, False]
    summary = summarise(records)
    assert summary["n_frames"] == 1
    assert summary["l2_m"] == {"1s": 7.5, "2s": 12.5, "3s": 17.5, "avg": 12.5}


def test_summary_weighs_frames_equally_and_reports_percent():
    hit = frame_planning(STILL, target(car(0.0, 31.0, offset=(0.0, -6.0))))
    summary = summarise([hit, frame_planning(FORWARD, target()), frame_planning(FORWARD, target())])
    assert summary["l2_m"]["avg"] == pytest.approx(12.5 / 3)
    assert summary["collision_percent"]["3s"] == pytest.approx(100 / 6 / 3)
    assert summary["collision_percent"]["avg"] == pytest.approx(100 / 6 / 3 / 3)
    assert summary["uniad_l2_m"]["3s"] == pytest.approx(10)


def test_no_frame_has_no_number():
    summary = summarise([])
    assert summary["n_frames"] == 0
    assert set(summary["l2_m"].values()) == {None}


def test_records_survive_a_row():
    record = frame_planning(STILL, target(car(0.0, 0.5)), "clip", "frame")
    assert FramePlanning.from_row(record.to_row()) == record
