"""Boxes, lines and the plan's metric decoded from the last frame."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from sead_ray.evaluation.motion import GROUPS, motion_counts
from sead_ray.evaluation.planning import HORIZONS_S
from sead_ray.evaluation.predictions import decode_predictions
from sead_ray.geometry import box_corners_bev, heading_from_vad_yaw
from sead_ray.model.decode import DecodedBoxes, DecodedLines, decode_boxes, decode_lines
from tests.parity.archive import ARCHIVES, Archive, Array
from tests.parity.planning_cases import planning_case, published
from tests.parity.runs import NOISE_FACTOR, frame_count, frames, targets, vad

FILE = "decoded.npz"
BOXES = ("boxes_3d_bottom_center", "boxes_3d_gravity_center", "boxes_3d_corners", "scores_3d", "labels_3d", "trajs_3d")
LINES = ("map_boxes_3d", "map_scores_3d", "map_labels_3d", "map_pts_3d")
PLAN = ("ego_fut_preds", "ego_fut_cmd")
METRIC = ("metric_names", "metric_values")
# Upstream's sums of the motion metric, each for cars and for pedestrians.
MOTION = {
    "gt": "n_agents",
    "cnt_ade": "n_ade",
    "cnt_fde": "n_fde",
    "hit": "n_hits",
    "fp": "n_false_positives",
    "ADE": "sum_ade_m",
    "FDE": "sum_fde_m",
    "MR": "n_misses",
}
PUBLISHED = [f"plan_{kind}_{second}s" for kind in ("L2", "obj_col", "obj_box_col") for second in HORIZONS_S]

by_archive = pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.label)


def noise(archive: Archive, name: str) -> float:
    return NOISE_FACTOR * float(archive.noise[f"frame{frame_count(archive) - 1}_{name}"][0])


@cache
def boxes(archive: Archive) -> DecodedBoxes:
    return decode_boxes(frames(archive)[f"frame{frame_count(archive) - 1}"].output)[0]


@cache
def lines(archive: Archive) -> DecodedLines:
    run = frames(archive)[f"frame{frame_count(archive) - 1}"]
    return decode_lines(run.output, vad(archive).size.pc_range)[0]


def in_upstreams_order(
    scores: Array, labels: Array, places: Array, found: DecodedBoxes | DecodedLines, ours: Array, limit: float
) -> Array:
    """For each of upstream's rows the row of ours: of those with the same label and score the one at its place.

    Args:
        places, ours: (rows, ...) where upstream's things are, and where ours.
    """
    free, rows = set(range(len(found.scores))), []
    for score, label, place in zip(scores, labels, places, strict=True):
        alike = [row for row in free if found.labels[row] == label and abs(float(found.scores[row]) - score) <= limit]
        assert alike, f"upstream's row {len(rows)} (class {label}, score {score}) was not decoded"
        rows.append(min(alike, key=lambda row: float(np.abs(ours[row] - place).sum())))
        free.remove(rows[-1])
    return np.array(rows)


def box_rows(archive: Archive) -> Array:
    found, limit = boxes(archive), noise(archive, "all_cls_scores") / 4  # the slope of a sigmoid
    scores, labels = archive.array(FILE, "scores_3d"), archive.array(FILE, "labels_3d")
    places = archive.array(FILE, "boxes_3d_gravity_center")
    return in_upstreams_order(scores, labels, places, found, found.boxes[:, :3].numpy(), limit)


def line_rows(archive: Archive) -> Array:
    found, limit = lines(archive), noise(archive, "map_all_cls_scores") / 4
    scores, labels = archive.array(FILE, "map_scores_3d"), archive.array(FILE, "map_labels_3d")
    return in_upstreams_order(scores, labels, archive.array(FILE, "map_pts_3d"), found, found.points_m.numpy(), limit)


@by_archive
def test_no_array_is_left_out(archive: Archive) -> None:
    assert set(archive.names(FILE)) == {*BOXES, *LINES, *PLAN, *METRIC}


@by_archive
def test_scores_fall_as_upstreams(archive: Archive) -> None:
    for found, name, logits in (
        (boxes(archive), "scores_3d", "all_cls_scores"),
        (lines(archive), "map_scores_3d", "map_all_cls_scores"),
    ):
        expected = archive.array(FILE, name)
        np.testing.assert_allclose(
            found.scores.numpy()[: len(expected)], expected, rtol=0, atol=noise(archive, logits) / 4
        )


@by_archive
def test_boxes_are_upstreams(archive: Archive) -> None:
    found = boxes(archive).boxes.numpy()[box_rows(archive)]
    expected = archive.array(FILE, "boxes_3d_bottom_center")
    limit = noise(archive, "all_bbox_preds")
    np.testing.assert_allclose(found[:, :3], archive.array(FILE, "boxes_3d_gravity_center"), rtol=limit, atol=limit)
    np.testing.assert_allclose(found[:, 2] - found[:, 5] / 2, expected[:, 2], rtol=limit, atol=2 * limit)
    np.testing.assert_allclose(
        found[:, [0, 1, 3, 4, 5, 7, 8]], expected[:, [0, 1, 3, 4, 5, 7, 8]], rtol=limit, atol=limit
    )
    turn = np.angle(np.exp(1j * (found[:, 6] - expected[:, 6])))
    assert np.abs(turn).max() <= yaw_limit(archive).max()
    assert (np.abs(turn) <= yaw_limit(archive)).all()


def yaw_limit(archive: Archive) -> Array:
    """An angle is less exact where its sine and cosine, as predicted, are short."""
    output = frames(archive)[f"frame{frame_count(archive) - 1}"].output
    sine_cosine = output.boxes[-1, 0, boxes(archive).queries][:, 6:8].norm(dim=-1).numpy()[box_rows(archive)]
    return noise(archive, "all_bbox_preds") / sine_cosine + 1e-6


@by_archive
def test_corners_are_upstreams(archive: Archive) -> None:
    """From heading, size and gravity centre; the order of the corners is mmdet3d's, and not compared."""
    found, expected = boxes(archive).boxes.double().numpy()[box_rows(archive)], archive.array(FILE, "boxes_3d_corners")
    limits = noise(archive, "all_bbox_preds") * (1 + found[:, 3:6].max(1)) + found[:, 3:5].max(1) * yaw_limit(archive)
    for box, corners, limit in zip(found, expected, limits, strict=True):
        ground = box_corners_bev(box[:2], box[4], box[3], float(heading_from_vad_yaw(box[6])))
        ours = np.concatenate([np.column_stack([ground, np.full(4, box[2] + half * box[5] / 2)]) for half in (-1, 1)])
        apart = np.abs(ours[:, None] - corners[None]).max(-1)
        assert sorted(apart.argmin(1).tolist()) == list(range(8))
        assert apart.min(1).max() <= 2 * limit


@by_archive
def test_futures_are_upstreams(archive: Archive) -> None:
    found = boxes(archive).offsets_m.numpy()[box_rows(archive)]
    np.testing.assert_allclose(found, archive.array(FILE, "trajs_3d"), rtol=0, atol=noise(archive, "all_traj_preds"))


@by_archive
def test_lines_are_upstreams(archive: Archive) -> None:
    size_x, size_y = vad(archive).size.extent_m
    limit = noise(archive, "map_all_pts_preds") * max(size_x, size_y)
    points = lines(archive).points_m.numpy()[line_rows(archive)]
    np.testing.assert_allclose(points, archive.array(FILE, "map_pts_3d"), rtol=0, atol=limit)
    ends = np.concatenate([points.min(1), points.max(1)], 1)
    np.testing.assert_allclose(ends, archive.array(FILE, "map_boxes_3d"), rtol=0, atol=limit)


@by_archive
def test_plan_is_upstreams(archive: Archive) -> None:
    plans = frames(archive)[f"frame{frame_count(archive) - 1}"].output.plans_m[0].numpy()
    np.testing.assert_allclose(
        plans, archive.array(FILE, "ego_fut_preds"), rtol=0, atol=noise(archive, "ego_fut_preds")
    )
    assert archive.array(FILE, "ego_fut_cmd").reshape(-1).tolist() == archive.inputs["ego_fut_cmd"].tolist()


def metric(archive: Archive) -> dict[str, float]:
    names, values = (archive.array(FILE, name).tolist() for name in METRIC)
    return dict(zip(names, values, strict=True))


@by_archive
def test_no_number_of_the_metric_is_left_out(archive: Archive) -> None:
    motion = [f"{name}_{group}" for name in MOTION for group in GROUPS]
    assert set(metric(archive)) == {*motion, *PUBLISHED, "fut_valid_flag"}


@pytest.mark.parametrize("name", [*PUBLISHED, "fut_valid_flag"])
@by_archive
def test_planning_metric_of_the_frame_is_upstreams(archive: Archive, name: str) -> None:
    target, expected = targets(archive, bool(metric(archive)["fut_valid_flag"])), metric(archive)[name]
    plan = frames(archive)[f"frame{frame_count(archive) - 1}"].output.plans_m[0, target.command].numpy()
    found = planning_case(plan, target)
    value = float(found.record.valid) if name == "fut_valid_flag" else published(found, name)
    assert value == pytest.approx(expected, abs=1e-4 if "L2" in name else 1e-6)


@pytest.mark.parametrize("group", GROUPS)
@by_archive
def test_motion_metric_of_the_frame_is_upstreams(archive: Archive, group: str) -> None:
    output = frames(archive)[f"frame{frame_count(archive) - 1}"].output
    (prediction,) = decode_predictions(output, vad(archive).size.pc_range)
    counts = motion_counts(prediction, targets(archive))[group]
    expected = {ours: metric(archive)[f"{name}_{group}"] for name, ours in MOTION.items()}
    assert {ours: float(getattr(counts, ours)) for ours in expected} == pytest.approx(expected, abs=1e-3)


def test_rows_may_change_places_only_among_equals() -> None:
    points = torch.arange(3.0).view(3, 1, 1).expand(3, 2, 2)
    scores, labels = torch.tensor([0.9, 0.5, 0.4999999]), torch.tensor([1, 2, 2])
    found = DecodedLines(points, scores, labels, torch.arange(3))
    ours, upstream = points.numpy(), np.float32([0, 2, 1])[:, None, None] * np.ones((3, 2, 2), np.float32)
    order = in_upstreams_order(np.array([0.9, 0.5, 0.5]), np.array([1, 2, 2]), upstream, found, ours, 1e-5)
    assert order.tolist() == [0, 2, 1]
    with pytest.raises(AssertionError, match="row 1"):
        in_upstreams_order(np.array([0.9, 0.6]), np.array([1, 2]), upstream[:2], found, ours, 1e-5)
    with pytest.raises(AssertionError, match="row 1"):
        in_upstreams_order(np.array([0.9, 0.5]), np.array([1, 0]), upstream[:2], found, ours, 1e-5)
