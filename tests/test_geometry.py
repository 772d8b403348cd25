"""Transforms and yaw conventions, checked against pyquaternion and the nuScenes devkit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nuscenes.utils.data_classes import Box
from nuscenes.utils.geometry_utils import transform_matrix, view_points
from pyquaternion import Quaternion

from sead_ray.geometry import (
    Pose,
    box_corners_bev,
    heading_from_quaternion,
    heading_from_vad_yaw,
    image_from_lidar,
    invert,
    quaternion_from_heading,
    quaternion_product,
    quaternions_from_headings,
    rotation_matrix,
    transform_points,
    vad_yaw_from_heading,
    wrap_angle,
)

quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1)
angles = st.floats(-100, 100)


def random_pose(rng: np.random.Generator, spread_m: float = 50.0) -> Pose:
    x, y, z = rng.normal(0, spread_m, 3)
    w, i, j, k = Quaternion(*rng.normal(size=4)).normalised.elements
    return Pose((x, y, z), (w, i, j, k))


@given(quaternions)
def test_rotation_matrix_and_heading_are_pyquaternions(quaternion: np.ndarray) -> None:
    theirs = Quaternion(*quaternion)
    np.testing.assert_allclose(rotation_matrix(quaternion), theirs.rotation_matrix, atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(3.7 * quaternion), theirs.rotation_matrix, atol=1e-12)
    yaw_rad = theirs.normalised.yaw_pitch_roll[0]
    # +pi and -pi are one heading
    assert abs(wrap_angle(heading_from_quaternion(quaternion) - yaw_rad)) < 1e-9


@given(st.floats(-np.pi, np.pi, exclude_min=True))
def test_heading_survives_the_quaternion(heading_rad: float) -> None:
    quaternion = quaternion_from_heading(heading_rad)
    assert np.linalg.norm(quaternion) == pytest.approx(1)
    assert abs(wrap_angle(heading_from_quaternion(quaternion) - heading_rad)) < 1e-9
    ahead = rotation_matrix(quaternion) @ [1, 0, 0]
    np.testing.assert_allclose(ahead, [np.cos(heading_rad), np.sin(heading_rad), 0], atol=1e-12)


def test_pose_matrix_is_the_devkits() -> None:
    pose = random_pose(np.random.default_rng(0))
    theirs = transform_matrix(np.array(pose.translation_m), Quaternion(*pose.rotation_wxyz))
    np.testing.assert_allclose(pose.matrix, theirs, atol=1e-12)
    assert pose.heading_rad == heading_from_quaternion(pose.rotation_wxyz)


def test_invert_undoes_single_and_stacked_transforms() -> None:
    rng = np.random.default_rng(1)
    stack = np.stack([random_pose(rng).matrix for _ in range(6)]).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(invert(stack) @ stack, np.broadcast_to(np.eye(4), stack.shape), atol=1e-10)
    np.testing.assert_allclose(invert(stack)[1, 2], np.linalg.inv(stack[1, 2]), atol=1e-10)


def test_transform_points_keeps_leading_axes() -> None:
    rng = np.random.default_rng(2)
    matrix, points = random_pose(rng).matrix, rng.normal(size=(2, 5, 3))
    moved = transform_points(matrix, points)
    assert moved.shape == points.shape
    np.testing.assert_allclose(moved[1, 4], (matrix @ [*points[1, 4], 1])[:3], atol=1e-12)


@given(angles)
def test_wrap_angle_stays_in_range_and_on_the_circle(angle_rad: float) -> None:
    wrapped = wrap_angle(angle_rad)
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle_rad), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle_rad), abs=1e-9)


@pytest.mark.parametrize("turns", range(-20, 21))
def test_wrap_angle_stays_below_pi_beside_the_seam(turns: int) -> None:
    seam = (2 * turns + 1) * np.pi
    wrapped = wrap_angle([np.nextafter(seam, -np.inf), seam, np.nextafter(seam, np.inf)])
    assert (wrapped >= -np.pi).all()
    assert (wrapped < np.pi).all()


@given(angles)
def test_vad_yaw_is_its_own_inverse(heading_rad: float) -> None:
    assert float(heading_from_vad_yaw(vad_yaw_from_heading(heading_rad))) == pytest.approx(heading_rad, abs=1e-9)


def test_vad_yaw_of_known_headings() -> None:
    # lidar frame: y forward, so a car ahead that drives our way has heading +pi/2 and VAD's yaw -pi
    np.testing.assert_allclose(vad_yaw_from_heading([np.pi / 2, 0.0]), [-np.pi, -np.pi / 2])


FORWARD_CAMERA = (0.5, -0.5, 0.5, -0.5)  # camera x right, y down, z forward, on an ego whose x is forward


def test_image_from_lidar_by_hand() -> None:
    intrinsics = [[100.0, 0, 80], [0, 100, 45], [0, 0, 1]]
    lidar = Pose((0, 0, 2), quaternion_from_heading(-np.pi / 2))  # lidar y is ego x
    camera = Pose((1, 0, 2), FORWARD_CAMERA)
    matrix = image_from_lidar(intrinsics, camera.matrix, np.eye(4), np.eye(4), lidar.matrix, scale=0.5)
    # 11 m ahead of the lidar, 1 m to the right, 2 m below: 10 m before the camera
    u, v, depth_m, one = matrix @ [1, 11, -2, 1]
    assert depth_m == pytest.approx(10)
    assert one == 1
    assert (u / depth_m, v / depth_m) == pytest.approx((0.5 * (80 + 100 * 1 / 10), 0.5 * (45 + 100 * 2 / 10)))


def test_image_from_lidar_accounts_for_ego_motion() -> None:
    lidar = Pose((0, 0, 2), quaternion_from_heading(-np.pi / 2))
    camera = Pose((1, 0, 2), FORWARD_CAMERA)
    later = Pose((4, 0, 0), quaternion_from_heading(0))
    matrix = image_from_lidar(np.eye(3), camera.matrix, later.matrix, np.eye(4), lidar.matrix)
    assert (matrix @ [0, 11, 0, 1])[2] == pytest.approx(6)  # the ego came 4 m closer until the camera fired


def test_image_from_lidar_is_the_devkits_chain() -> None:
    rng = np.random.default_rng(3)
    lidar, ego_at_lidar, ego_at_camera, camera = (random_pose(rng, 2.0) for _ in range(4))
    intrinsics = np.array([[1266.4, 0.0, 816.3], [0.0, 1250.1, 491.5], [0.0, 0.0, 1.0]])
    box = Box([3.0, 4.0, 5.0], [1.9, 4.5, 1.6], Quaternion(axis=[0, 0, 1], angle=0.4))
    in_lidar = box.corners()
    # NuScenes.get_sample_data: lidar -> ego -> global, then global -> ego -> camera
    for pose in (lidar, ego_at_lidar):
        box.rotate(Quaternion(*pose.rotation_wxyz))
        box.translate(np.array(pose.translation_m))
    for pose in (ego_at_camera, camera):
        box.translate(-np.array(pose.translation_m))
        box.rotate(Quaternion(*pose.rotation_wxyz).inverse)
    theirs = view_points(box.corners(), intrinsics, normalize=False)
    matrix = image_from_lidar(intrinsics, camera.matrix, ego_at_camera.matrix, ego_at_lidar.matrix, lidar.matrix)
    ours = matrix @ np.vstack([in_lidar, np.ones(8)])
    np.testing.assert_allclose(ours[:3], theirs, atol=1e-8)


def test_box_corners_by_hand() -> None:
    corners = box_corners_bev([10, 20], length=4, width=2, heading_rad=np.pi / 2)
    # heading +y: front is up, left is -x
    np.testing.assert_allclose(corners, [[9, 22], [11, 22], [11, 18], [9, 18]], atol=1e-12)


@given(angles, st.floats(0.1, 20), st.floats(0.1, 5))
def test_box_corners_are_a_clockwise_rectangle_of_the_size(heading_rad: float, length: float, width: float) -> None:
    corners = box_corners_bev([3, -4], length, width, heading_rad)
    np.testing.assert_allclose(corners.mean(0), [3, -4], atol=1e-9)
    sides = np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1)
    np.testing.assert_allclose(sides, [width, length, width, length], rtol=1e-9)
    x, y = corners.T
    area = 0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    assert area == pytest.approx(-length * width)


def test_quaternion_product_turns_by_the_second_then_the_first():
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(2, 5, 4))
    first, second = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (first, second))
    for product, a, b in zip(quaternion_product(first, second), first, second):
        expected = rotation_matrix(a) @ rotation_matrix(b)
        np.testing.assert_allclose(rotation_matrix(product), expected, atol=1e-12)
    one = quaternion_product(first[0], second)  # one rotation before many
    np.testing.assert_allclose(one[3], quaternion_product(first[0], second[3]))


def test_quaternions_of_many_headings_are_those_of_each():
    headings = np.array([-3.0, 0.0, 1.2])
    expected = [quaternion_from_heading(heading) for heading in headings]
    np.testing.assert_allclose(quaternions_from_headings(headings), expected)
