"""Files to look at a clip: everything lies where it belongs, and the tools' own readers find it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sead_ray.evaluation.predictions import FramePrediction
from sead_ray.geometry import Pose, invert, transform_points
from sead_ray.labels.sources import Sources
from sead_ray.labels.task import TaskFrame
from sead_ray.nuscenes.targets import build_targets
from sead_ray.records import CAMERAS, Clip, ClipScore, FrameLabels
from sead_ray.viewing.view import FrameView, ModelView, clip_view
from tests.hand_made import make_score


def prediction(clip: Clip, index: int, truth: dict[str, FrameLabels]) -> FramePrediction:
    """A model that sees what is there."""
    targets = build_targets(clip, index, truth)
    lines = truth[clip.frames[index].token].map_vectors
    return FramePrediction(
        boxes=targets.boxes,
        scores=np.full(len(targets.labels), 0.75, np.float32),
        labels=targets.labels,
        offsets_m=np.zeros((len(targets.labels), 1, 6, 2), np.float32),
        lines_m=np.array([line.points_m[[0, -1]] for line in lines], np.float32).reshape(-1, 2, 2),
        line_scores=np.full(len(lines), 0.5, np.float32),
        line_labels=np.array([line.map_class for line in lines], np.int64),
    )


@pytest.fixture(scope="module")
def score(world_clip: Clip) -> ClipScore:
    n = len(world_clip.frames)
    shifts = [0.25 * step for step in range(1, n)]
    return replace(
        make_score(world_clip.clip_token),
        n_frames=n,
        shift_agents=shifts,
        shift_map=[2 * shift for shift in shifts],
        is_key=[index > 2 for index in range(n)],
        min_distance_m=[float("inf"), *range(1, n)],
    )


@pytest.fixture(scope="module")
def views(world_clip: Clip, truth: dict[str, FrameLabels], sources: Sources, score: ClipScore) -> list[FrameView]:
    futures = [build_targets(world_clip, index, truth).ego_future for index in range(len(world_clip.frames))]
    seen = [prediction(world_clip, index, truth) for index in range(len(world_clip.frames))]
    sweeps = {frame.token: sources.sweep(TaskFrame(frame, 0, False)) for frame in world_clip.frames}
    return clip_view(world_clip, truth, sweeps, ModelView(np.stack(futures), seen), score)


def test_what_is_seen_lies_on_what_is_labelled(views: list[FrameView]) -> None:
    compared = 0
    for view in views:
        labelled = np.array([box.center_m for box in view.labels or []]).reshape(-1, 3)
        for box in view.detections or []:
            apart_m = np.linalg.norm(labelled - box.center_m, axis=1)
            nearest = (view.labels or [])[int(apart_m.argmin())]
            assert apart_m.min() < 1e-3
            assert nearest.label == box.label
            assert np.abs(np.dot(nearest.rotation_wxyz, box.rotation_wxyz)) == pytest.approx(1, abs=1e-3)
            np.testing.assert_allclose(nearest.size_lwh_m, box.size_lwh_m, rtol=1e-5)
            compared += 1
    assert compared > 10


def test_a_plan_that_is_driven_lies_on_the_driven_path(views: list[FrameView]) -> None:
    """The plan is of the lidar, a metre before the ego's origin: both turn alike."""
    for view in views[:1]:
        assert view.plan_m is not None
        steps_m = np.linalg.norm(np.diff(view.plan_m[:, :2], axis=0), axis=1)
        driven_m = np.linalg.norm(np.diff(view.driven_m[:7, :2], axis=0), axis=1)
        np.testing.assert_allclose(steps_m, driven_m, atol=0.3)
        assert np.allclose(view.plan_m[:, 2], view.driven_m[0, 2])


def test_numbers_belong_to_their_frames(views: list[FrameView]) -> None:
    assert "shift_agents" not in views[0].numbers
    assert (views[1].numbers["shift_agents"], views[1].numbers["shift_map"]) == (0.25, 0.5)
    assert [view.numbers["is_key"] for view in views] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert "nearest_m" not in views[0].numbers


def test_a_clip_with_nothing_but_images_can_be_shown(world_clip: Clip) -> None:
    view = clip_view(world_clip, {}, {})[0]
    assert (view.labels, view.detections, view.plan_m, view.points, view.numbers) == (None, None, None, None, {})


def test_foxglove_finds_every_topic_with_its_own_schemas(
    views: list[FrameView], world_clip: Clip, sources: Sources, tmp_path: Path
) -> None:
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    from sead_ray.viewing.mcap import write_mcap

    write_mcap(world_clip, views, sources.data, str(tmp_path / "clip.mcap"))
    messages: dict[str, list[Any]] = {}
    with open(tmp_path / "clip.mcap", "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory(), _JsonDecoder()])
        summary = reader.get_summary()
        for _, channel, _, message in reader.iter_decoded_messages():
            messages.setdefault(channel.topic, []).append(message)
        assert {item.name: item.metadata for item in reader.iter_metadata()}["clip"]["name"] == world_clip.name
    assert summary is not None
    kinds = {schema.name for schema in summary.schemas.values()}
    assert kinds >= {"foxglove.SceneUpdate", "foxglove.CompressedImage", "foxglove.CameraCalibration", "sead_ray.Score"}
    n = len(views)
    for topic in ("/labels", "/detections", "/map", "/map_seen", "/driven", "/plan", "/points", "/score"):
        assert len(messages[topic]) == n
    assert len(messages["/tf"]) == 7 * n
    for name in CAMERAS:
        assert messages[f"/{name}/image"][0].data[:2] == b"\xff\xd8"
        assert (
            list(messages[f"/{name}/calibration"][0].K)
            == world_clip.frames[0].cameras[CAMERAS.index(name)].intrinsics.reshape(-1).tolist()
        )
    cubes = messages["/labels"][0].entities[0].cubes
    assert [cube.size.x for cube in cubes] == [box.size_lwh_m[0] for box in views[0].labels or []]
    assert messages["/score"][1]["shift_map"] == 0.5
    check_camera_transform(messages["/tf"], messages["/points"][0], world_clip)


def check_camera_transform(transforms: list[Any], cloud: Any, clip: Clip) -> None:
    """Through the transform of CAM_FRONT part of the cloud falls into its image."""
    row = next(item for item in transforms if item.child_frame_id == "CAM_FRONT")
    place, turn = row.translation, row.rotation
    world_from_camera = Pose((place.x, place.y, place.z), (turn.w, turn.x, turn.y, turn.z)).matrix
    points = np.frombuffer(cloud.data, "<f4").reshape(-1, cloud.point_stride // 4)[:, :3]
    local = transform_points(invert(world_from_camera), points)
    camera = clip.frames[0].cameras[0]
    pixels = local[local[:, 2] > 1] @ camera.intrinsics.T
    u, v = (pixels[:, :2] / pixels[:, 2:]).T
    assert ((u > 0) & (u < camera.width) & (v > 0) & (v < camera.height)).mean() > 0.05


class _JsonDecoder:
    def decoder_for(self, message_encoding: str, _schema: Any) -> Any:
        return json.loads if message_encoding == "json" else None


def test_rerun_reads_the_recording(views: list[FrameView], world_clip: Clip, sources: Sources, tmp_path: Path) -> None:
    rerun = pytest.importorskip("rerun")
    from sead_ray.viewing.rrd import write_rrd

    path = tmp_path / "clip.rrd"
    write_rrd(world_clip, views, sources.data, str(path))
    recording = rerun.dataframe.load_recording(str(path))
    entities = {column.entity_path for column in recording.schema().component_columns()}
    wanted = {"labels", "detections", "map", "map_seen", "plan", "driven", "points", *CAMERAS}
    assert entities >= {f"/world/{name}" for name in wanted} | {"/score/shift_agents", "/score/shift_map"}
    table = recording.view(index="frame", contents="/score/shift_map").select().read_all()
    name = next(name for name in table.column_names if name.endswith("Scalar"))
    values = {row["frame"]: row[name][0] for row in table.to_pylist() if row["frame"] is not None and row[name]}
    assert values == {index: view.numbers["shift_map"] for index, view in enumerate(views) if index}
    boxes = recording.view(index="frame", contents="/world/labels").select().read_all()
    centres = next(name for name in boxes.column_names if name.endswith("PoseTranslation3D"))
    counts = [len(row[centres]) for row in boxes.to_pylist() if row["frame"] is not None and row[centres]]
    assert counts == [len(view.labels or []) for view in views if view.labels]
