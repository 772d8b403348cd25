from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sead_ray.report.plots import loss_curve, loss_group
from sead_ray.report.read import clips_of, labels_of
from sead_ray.report.sketch import bev_sketch
from sead_ray.report.thumbnails import ByteBudget, frames_to_show, thumbnail_uri
from sead_ray.report.trace import shift_trace
from sead_ray.storage import Store


def numbers(text: str) -> np.ndarray:
    return np.array([float(value) for value in re.findall(r"-?\d+\.?\d*", text)]).reshape(-1, 2)


@pytest.mark.parametrize("index", [0, 5])
def test_the_sketch_draws_boxes_in_the_lidar_frame_with_forward_up(finished_run, index):
    clip = clips_of(finished_run[0], {"clip01"})["clip01"]
    token = clip.frames[index].token
    text = bev_sketch(clip, index, labels_of(finished_run[0], {token})[token], near_m=5.0)
    car = numbers(re.findall(r'<g class="vehicle"><polygon points="([^"]+)"', text)[0])
    # 12 m ahead and 3 m left of the ego origin; the lidar is 0.95 m ahead of it. Screen: x right, y down.
    assert car.mean(axis=0) == pytest.approx([-3.0, -(12.0 - 0.95)], abs=0.02)
    assert np.ptp(car, axis=0) == pytest.approx([1.9, 4.5], abs=0.02)
    person = numbers(re.findall(r'<g class="person"><polygon points="([^"]+)"', text)[0])
    assert person.mean(axis=0) == pytest.approx([3.0, -(4.0 - 0.95)], abs=0.02)


def test_the_recorded_path_starts_at_the_lidar_and_follows_the_drive(finished_run):
    clip = clips_of(finished_run[0], {"clip00"})["clip00"]
    path = numbers(re.findall(r'class="path" points="([^"]+)"', bev_sketch(clip, 0, None, 5.0))[0])
    assert len(path) == 7
    assert path[0] == pytest.approx([0, 0])
    assert (np.diff(path[:, 1]) < 0).all()  # forward is up
    assert path[-1, 0] < 0  # and this drive bears left


def test_the_plan_is_drawn_beside_the_driven_path(finished_run):
    clip = clips_of(finished_run[0], {"clip00"})["clip00"]
    plan_m = np.array([[0.5 * step, 2.0 * step] for step in range(1, 7)])
    path = numbers(re.findall(r'class="plan" points="([^"]+)"', bev_sketch(clip, 0, None, 5.0, plan_m))[0])
    assert path[0] == pytest.approx([0, 0])
    assert path[1:] == pytest.approx(plan_m * [1, -1])
    assert 'class="plan"' not in bev_sketch(clip, 0, None, 5.0)


TIMES_S = [0.0, 0.5, 1.0, 1.5]


def bands(text: str) -> int:
    return text.count("fdebdd")


def test_key_frames_are_banded_only_where_shifts_and_frames_align():
    is_key = [False, True, True, False]
    aligned = shift_trace([1.0, 2.0, 1.0], [0.5, 0.5, 0.5], is_key, "a", TIMES_S)
    assert bands(aligned) == 1  # one run
    assert "time (s)" in aligned
    gap = shift_trace([1.0, 2.0], [0.5, 0.5], is_key, "a", TIMES_S)  # a gap took one transition
    assert bands(gap) == 0
    assert "transition" in gap


@pytest.mark.parametrize("values", [[], [0.0], [float("nan"), float("inf")], [1e9, 1e-9]])
def test_a_trace_of_any_values_holds_finite_coordinates(values):
    text = shift_trace(values, values, [], "odd")
    assert not re.search(r"nan|inf", re.sub(r'aria-label="[^"]*"', "", text))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(1, 30))
def test_shown_frames_are_in_order_within_the_limit_and_prefer_bought_ones(n_frames, start, length, limit):
    bought = range(min(start, n_frames), min(start + length, n_frames))
    shown = frames_to_show(n_frames, bought, limit)
    assert shown == sorted(set(shown))
    assert len(shown) == min(limit, n_frames)
    assert sum(index in bought for index in shown) == min(limit, len(bought))


def test_a_thumbnail_is_small_and_a_broken_image_is_none(tmp_path):
    data = Store(str(tmp_path))
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1600, 3), np.uint8)).save(out, "JPEG")
    data.write_bytes("a.jpg", out.getvalue())
    data.write_bytes("cut.jpg", out.getvalue()[:2000])
    data.write_bytes("text.jpg", b"no image")
    uri = thumbnail_uri(data, "a.jpg")
    assert uri is not None
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 20_000
    assert [thumbnail_uri(data, key) for key in ("cut.jpg", "text.jpg", "none.jpg", "../a.jpg")] == [None] * 4


def test_the_budget_ends_with_the_first_that_does_not_fit():
    budget = ByteBudget(10)
    assert [budget.take(size) for size in (6, 5, 1)] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("loss_cls", "detection"),
        ("d1.loss_bbox", "detection"),
        ("loss_traj_cls", "motion"),
        ("loss_map_cls", "map"),
        ("d0.loss_map_bbox", "map"),
        ("loss_plan_map_bound", "planning"),
        ("loss_something", "other"),
    ],
)
def test_loss_terms_fall_into_their_groups(name, group):
    assert loss_group(name) == group


def test_a_narrow_loss_range_still_has_ticks():
    steps = [{"step": step, "loss": 2.9 - 0.01 * step, "losses": {"loss_cls": 2.0}} for step in range(5)]
    text = loss_curve(0, steps)
    assert text is not None
    assert len(re.findall(r"ytick_\d", text)) >= 3
