"""Labels and targets: boxes, futures, map orders, and that unbought labels are never read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sead_ray.errors import InputError
from sead_ray.geometry import invert, transform_points
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.map_targets import draw_orders, equivalent_orders, resample
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import AGENT_CLASSES, MAP_CLASSES, OBJECT_CATEGORIES, Clip, FrameLabels
from sead_ray.targets import MAP_ORDER_FILL, FrameTargets

Labels = dict[str, FrameLabels]


@pytest.fixture(scope="module")
def clip(folder: NuScenesFolder) -> Clip:
    return folder.clip("token-scene-0001", "pool")


@pytest.fixture(scope="module")
def labels(folder: NuScenesFolder) -> Labels:
    return {item.frame_token: item for item in folder.labels("token-scene-0001")}


def as_bytes(targets: FrameTargets) -> list[bytes]:
    return [np.asarray(value).tobytes() for value in dataclasses.astuple(targets)]


def spoiled(item: FrameLabels) -> FrameLabels:
    boxes = tuple(
        dataclasses.replace(annotation, translation_m=(1.0, 2.0, 3.0), n_lidar_points=99)
        for annotation in item.annotations
    )
    return dataclasses.replace(item, annotations=boxes, map_vectors=())


def test_categories_are_the_devkits_order() -> None:
    from nuscenes.utils.color_map import get_colormap

    assert tuple(get_colormap())[: len(OBJECT_CATEGORIES)] == OBJECT_CATEGORIES


def test_only_detection_classes_in_range_with_returns_remain(clip: Clip, labels: Labels) -> None:
    train = build_targets(clip, 0, labels)
    val = build_targets(clip, 0, labels, points="lidar")
    names = [AGENT_CLASSES[label] for label in train.labels]
    assert names == ["car", "pedestrian", "truck"]  # the far car and the animal are no targets
    assert [AGENT_CLASSES[label] for label in val.labels] == ["car", "pedestrian"]  # the truck: radar only
    assert (np.abs(train.boxes[:, :2]) < (15, 30)).all()


def test_boxes_lie_where_the_annotations_are(clip: Clip, labels: Labels) -> None:
    targets, frame = build_targets(clip, 2, labels), clip.frames[2]
    annotation = labels[frame.token].annotations[0]
    center = transform_points(invert(frame.global_from_lidar), annotation.translation_m)
    np.testing.assert_allclose(targets.boxes[0, :3], center, atol=1e-5)
    np.testing.assert_allclose(targets.boxes[0, 3:6], (1.9, 4.5, 1.6), rtol=1e-6)
    velocity = invert(frame.global_from_lidar)[:3, :3] @ (4.0, 0.5, 0.0)
    np.testing.assert_allclose(targets.boxes[0, 7:], velocity[:2], atol=1e-4)
    # Ahead in the lidar frame is +y, and VAD's yaw of that heading (pi / 2) is -pi.
    heading = targets.attributes[0, 21]
    turned = 0.05 * 2 - (frame.global_from_ego.heading_rad - 0.4)
    assert heading == pytest.approx(np.pi / 2 + turned, abs=1e-5)
    assert np.cos(targets.boxes[0, 6] + heading + np.pi / 2) == pytest.approx(1)


def test_futures_lead_to_the_later_boxes(clip: Clip, labels: Labels) -> None:
    targets = build_targets(clip, 1, labels)
    path = targets.boxes[0, :2] + targets.agent_futures[0].cumsum(axis=0)
    for step in range(6):
        annotation = labels[clip.frames[2 + step].token].annotations[0]
        center = transform_points(invert(clip.frames[1].global_from_lidar), annotation.translation_m)
        np.testing.assert_allclose(path[step], center[:2], atol=1e-4)
    np.testing.assert_allclose(targets.attributes[0, 28:], 0.05, atol=1e-5)
    assert (targets.agent_future_masks == 1).all()
    assert targets.future_valid
    late = build_targets(clip, 5, labels)
    assert late.agent_future_masks[0].tolist() == [1, 1, 0, 0, 0, 0]
    assert (late.agent_futures[0, 2:] == 0).all()
    assert not late.future_valid


def test_attribute_row_repeats_the_box(clip: Clip, labels: Labels) -> None:
    targets = build_targets(clip, 0, labels)
    np.testing.assert_array_equal(
        targets.attributes[:, [19, 20, 22, 23, 24, 25, 26]], targets.boxes[:, [0, 1, 7, 8, 3, 4, 5]]
    )
    assert targets.attributes[:, 27].tolist() == [17, 2, 23]  # car, adult, truck of the lidarseg table
    assert targets.attributes[2, 18] == 9  # the parked truck's goal


def test_unbought_labels_change_no_byte(clip: Clip, labels: Labels) -> None:
    bought = {clip.frames[index].token for index in (2, 3, 4)}
    altered = {token: item if token in bought else spoiled(item) for token, item in labels.items()}
    only = {token: item for token, item in labels.items() if token in bought}
    for index in (2, 3, 4):
        expected = as_bytes(build_targets(clip, index, labels, bought))
        assert as_bytes(build_targets(clip, index, altered, bought)) == expected
        assert as_bytes(build_targets(clip, index, only, bought)) == expected
    # The same change is seen where all labels count: the test above could fail.
    assert as_bytes(build_targets(clip, 3, altered)) != as_bytes(build_targets(clip, 3, labels))


def test_bought_futures_end_with_the_run(clip: Clip, labels: Labels) -> None:
    bought = {clip.frames[index].token for index in (2, 3, 5)}
    first, last = build_targets(clip, 2, labels, bought), build_targets(clip, 3, labels, bought)
    assert first.agent_future_masks[0].tolist() == [1, 0, 0, 0, 0, 0]
    assert (last.agent_future_masks == 0).all()  # frame 5 is bought, but no next step of frame 3
    alone = build_targets(clip, 5, labels, bought)
    assert (alone.boxes[:, 7:] == 0).all()  # no velocity from one annotation
    assert alone.ego_future_mask.tolist() == [1, 1, 0, 0, 0, 0]  # the recorded drive is free
    with pytest.raises(InputError, match=clip.frames[4].token):
        build_targets(clip, 4, labels, bought)


def test_map_vectors_stay_in_the_patch_and_rings_close(labels: Labels) -> None:
    vectors = next(iter(labels.values())).map_vectors
    by_class = {name: [v for v in vectors if MAP_CLASSES[v.map_class] == name] for name in MAP_CLASSES}
    assert all(by_class.values())
    for vector in vectors:
        assert (np.abs(vector.points_m) <= (15 + 1e-9, 30 + 1e-9)).all()
    assert len(by_class["ped_crossing"]) == 1  # two that touch are one
    ring = by_class["ped_crossing"][0].points_m
    np.testing.assert_array_equal(ring[0], ring[-1])
    # The hole of the road lies within the patch: a closed boundary. The road's edges are cut: open ones.
    closed = [np.array_equal(v.points_m[0], v.points_m[-1]) for v in by_class["boundary"]]
    assert sorted(closed) == [False, False, True] or sorted(closed) == [False, True]


def test_map_vectors_lie_on_the_map(clip: Clip, labels: Labels) -> None:
    frame = clip.frames[3]
    for vector in labels[frame.token].map_vectors:
        points = np.column_stack([vector.points_m, np.full(len(vector.points_m), -1.84)])
        world = transform_points(frame.global_from_lidar, points)[:, :2]
        if vector.map_class == 0:
            np.testing.assert_allclose(world[:, 1], 303, atol=1e-6)
        if vector.map_class == 1:
            assert ((world >= (210 - 1e-6, 298 - 1e-6)) & (world <= (216 + 1e-6, 308 + 1e-6))).all()


def test_orders_draw_the_same_line() -> None:
    line = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    orders = equivalent_orders(line)
    assert orders.shape == (2, 20, 2)
    np.testing.assert_array_equal(orders[0], orders[1][::-1])
    np.testing.assert_allclose(np.linalg.norm(np.diff(resample(line), axis=0), axis=1).sum(), 7, atol=0.3)
    np.testing.assert_allclose(orders[0][[0, -1]], line[[0, -1]])
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [0.0, 0.0]])
    orders = equivalent_orders(square)
    assert orders.shape == (4, 20, 2)
    np.testing.assert_allclose(orders[:, 0], orders[:, -1])
    assert {tuple(start) for start in orders[:, 0]} == {tuple(vertex) for vertex in square[:-1]}


def test_many_orders_are_drawn_under_the_seed(clip: Clip, labels: Labels) -> None:
    angle = np.linspace(0, 2 * np.pi, 41)
    circle = np.column_stack([np.cos(angle), np.sin(angle)]) * 5
    circle[-1] = circle[0]
    orders = equivalent_orders(circle)
    assert orders.shape == (40, 20, 2)
    one = draw_orders([orders], np.random.default_rng(1))
    assert one.shape == (1, 19, 20, 2)
    np.testing.assert_array_equal(one, draw_orders([orders], np.random.default_rng(1)))
    assert (one != draw_orders([orders], np.random.default_rng(2))).any()
    targets = build_targets(clip, 0, labels)
    used = (targets.map_points != MAP_ORDER_FILL).all(axis=(2, 3))
    assert set(np.unique(used.sum(axis=1))) <= set(range(2, 20))
    assert len(targets.map_labels) == len(targets.map_points)
