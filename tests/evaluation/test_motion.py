"""Motion metrics on scenes whose answer is known by hand, and against every possible assignment."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from sead_ray.evaluation.motion import MotionCounts, match_agents, motion_counts, summarise_motion
from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.records import AGENT_CLASSES
from sead_ray.targets import MAP_ORDERS, FrameTargets
from tests.evaluation.made_up import prediction

CAR, TRUCK, BARRIER, BICYCLE, PEDESTRIAN, CONE = (
    AGENT_CLASSES.index(name) for name in ("car", "truck", "barrier", "bicycle", "pedestrian", "traffic_cone")
)
FORWARD = np.tile([0.0, 2.0], (6, 1))
STILL = np.zeros((6, 2))


def target(*agents: tuple[int, float, float, np.ndarray, int]) -> FrameTargets:
    """Agents are (label, x, y, per-step offsets, known steps)."""
    boxes = np.zeros((len(agents), 9), np.float32)
    attributes = np.zeros((len(agents), 34), np.float32)
    for row, (_, x, y, offsets, steps) in enumerate(agents):
        boxes[row, :2] = x, y
        attributes[row, :12] = np.asarray(offsets).reshape(-1)
        attributes[row, 12:18] = np.arange(6) < steps
    return FrameTargets(
        boxes=boxes,
        labels=np.array([label for label, *_ in agents], np.int64),
        attributes=attributes,
        map_points=np.zeros((0, MAP_ORDERS, 20, 2), np.float32),
        map_labels=np.zeros(0, np.int64),
        ego_future=np.zeros((6, 2), np.float32),
        ego_future_mask=np.ones(6, np.float32),
        command=2,
        future_valid=True,
    )


def found(*boxes: tuple[int, float, float, float, list[np.ndarray]]) -> FramePrediction:
    """Boxes are (label, x, y, score, one path of offsets for each mode)."""
    rows = np.zeros((len(boxes), 9))
    rows[:, :2] = np.array([[x, y] for _, x, y, *_ in boxes]).reshape(-1, 2)
    offsets = np.array([modes for *_, modes in boxes]) if boxes else np.zeros((0, 2, 6, 2))
    return prediction(rows, [score for *_, score, _ in boxes], [label for label, *_ in boxes], offsets)


def test_the_best_mode_counts():
    scene = target((CAR, 0, 10, FORWARD, 6))
    counts = motion_counts(found((CAR, 0, 10.5, 0.9, [STILL, FORWARD])), scene)["car"]
    assert counts.n_agents == counts.n_ade == counts.n_fde == counts.n_hits == 1
    assert counts.n_misses == counts.n_false_positives == 0
    assert counts.sum_ade_m == pytest.approx(0.5)
    assert counts.sum_fde_m == pytest.approx(0.5)
    assert summarise_motion([{"car": counts, "pedestrian": MotionCounts()}])["car"]["EPA"] == 1


def test_average_and_final_may_come_from_different_modes():
    late = np.array([[0, 2.0]] * 5 + [[0, 8.0]])  # right but for the last step: average 1 m, final 6 m
    early = np.array([[3.0, 2.0]] + [[0, 2.0]] * 5)  # 3 m beside it all along
    counts = motion_counts(found((CAR, 0, 0, 0.9, [late, early])), target((CAR, 0, 0, FORWARD, 6)))["car"]
    assert counts.sum_ade_m == pytest.approx(1)
    assert counts.sum_fde_m == pytest.approx(3)
    assert (counts.n_hits, counts.n_misses) == (0, 1)


def test_a_final_displacement_of_2_m_is_a_hit():
    beside = np.array([[2.0, 2.0]] + [[0, 2.0]] * 5)
    counts = motion_counts(found((CAR, 0, 0, 0.9, [beside])), target((CAR, 0, 0, FORWARD, 6)))["car"]
    assert (counts.n_hits, counts.n_misses) == (1, 0)


def test_a_future_cut_short_has_an_average_only():
    scene = target((CAR, 0, 0, FORWARD, 2), (CAR, 20, 0, FORWARD, 0))
    seen = found((CAR, 0, 0, 0.9, [STILL]), (CAR, 20, 0, 0.9, [STILL]))
    counts = motion_counts(seen, scene)["car"]
    assert (counts.n_agents, counts.n_ade, counts.n_fde) == (0, 1, 0)
    assert counts.sum_ade_m == pytest.approx((2 + 4) / 2)
    assert counts.n_false_positives == 0  # both boxes have a partner


def test_boxes_up_to_a_score_of_06_are_not_looked_at():
    scene = target((CAR, 0, 0, FORWARD, 6))
    counts = motion_counts(found((CAR, 0, 0, 0.6, [FORWARD]), (CAR, 30, 0, 0.6, [FORWARD])), scene)["car"]
    assert counts == MotionCounts(n_agents=1)


def test_a_box_beyond_2_m_is_a_false_positive():
    scene = target((PEDESTRIAN, 0, 0, STILL, 6))
    counts = motion_counts(found((PEDESTRIAN, 2.1, 0, 0.9, [STILL])), scene)["pedestrian"]
    assert (counts.n_ade, counts.n_false_positives) == (0, 1)
    report = summarise_motion([{"car": MotionCounts(), "pedestrian": counts}])["pedestrian"]
    assert report["EPA"] == -0.5
    assert report["minADE_m"] is None


def test_vehicles_count_as_cars_and_things_as_nothing():
    scene = target((TRUCK, 0, 0, STILL, 6), (BARRIER, 10, 0, STILL, 6), (BICYCLE, 20, 0, STILL, 6))
    seen = found(*((label, x, 0.0, 0.9, [STILL]) for label, x in ((CAR, 0.0), (BARRIER, 10.0), (CONE, 15.0))))
    counts = motion_counts(seen, scene)
    assert counts["car"] == MotionCounts(n_agents=1, n_ade=1, n_fde=1, n_hits=1)
    assert counts["pedestrian"] == MotionCounts()


def test_classes_need_not_agree():
    """As upstream: a pedestrian's box on a car is that car's match; it is no false positive."""
    counts = motion_counts(found((PEDESTRIAN, 0, 0, 0.9, [STILL])), target((CAR, 0, 0, STILL, 6)))
    assert counts["car"].n_hits == 1
    assert counts["pedestrian"] == MotionCounts()


def test_the_assignment_has_the_smallest_sum():
    rng = np.random.default_rng(5)
    for _ in range(50):
        boxes, agents = (np.pad(rng.uniform(-2, 2, (n, 2)), ((0, 0), (0, 7))) for n in rng.integers(1, 5, 2))
        labels = [np.full(len(rows), CAR) for rows in (boxes, agents)]
        match = match_agents(boxes, labels[0], agents, labels[1])
        distance = np.linalg.norm(boxes[:, None, :2] - agents[None, :, :2], axis=-1)
        cost = np.where(distance <= 2, distance, 1e6)
        places = [*range(len(boxes)), *[-1] * len(agents)]
        best = min(
            (
                sum(cost[box, agent] if box >= 0 else 1e6 for agent, box in enumerate(order))
                for order in itertools.permutations(places, len(agents))
            ),
        )
        assert sum(cost[box, agent] if box >= 0 else 1e6 for agent, box in enumerate(match)) == pytest.approx(best)
        assert len(set(match[match >= 0])) == (match >= 0).sum()


def test_inputs_are_not_changed():
    scene, seen = target((TRUCK, 0, 0, FORWARD, 6)), found((TRUCK, 0, 0.5, 0.9, [STILL, FORWARD]))
    before = [np.copy(value) for value in (scene.labels, scene.boxes, scene.attributes, seen.labels, seen.boxes)]
    assert motion_counts(seen, scene) == motion_counts(seen, scene)
    for array, copy in zip((scene.labels, scene.boxes, scene.attributes, seen.labels, seen.boxes), before):
        assert np.array_equal(array, copy)


def test_frames_add_up():
    first = motion_counts(found((CAR, 0, 0, 0.9, [STILL])), target((CAR, 0, 0, FORWARD, 6)))
    second = motion_counts(
        found((CAR, 0, 0, 0.9, [FORWARD]), (CAR, 9, 9, 0.9, [STILL])), target((CAR, 0, 0, FORWARD, 6))
    )
    report = json.loads(json.dumps(summarise_motion([first, second]), allow_nan=False))["car"]
    assert report["minADE_m"] == pytest.approx(np.mean([2, 4, 6, 8, 10, 12]) / 2)
    assert report["minFDE_m"] == pytest.approx(6)
    assert report["miss_rate"] == 0.5
    assert report["EPA"] == pytest.approx((1 - 0.5 * 1) / 2)


def test_nothing_has_no_number():
    for frames in ([], [motion_counts(found(), target())]):
        entry = summarise_motion(frames)["car"]
        assert {entry[name] for name in ("minADE_m", "minFDE_m", "miss_rate", "EPA")} == {None}
