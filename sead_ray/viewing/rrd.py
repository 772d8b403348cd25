"""A `.rrd` recording for rerun (the extra `view`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from sead_ray.geometry import Pose
from sead_ray.image_keys import read_image
from sead_ray.records import CAMERAS, Clip
from sead_ray.storage import Store
from sead_ray.viewing import colours
from sead_ray.viewing.view import FrameView, ViewBox, ViewLine

SHIFTS = {"shift_agents": colours.ORANGE, "shift_map": colours.SKY}


def write_rrd(clip: Clip, views: Sequence[FrameView], data: Store, path: str) -> None:
    """Writes the recording: cameras and boxes in the world, shifts over time.

    Raises:
        InputError: an image is missing.
    """
    recording: Any = rr.new_recording("sead_ray", recording_id=clip.clip_token)
    recording.save(path, default_blueprint=_blueprint())
    recording.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    for name, colour in SHIFTS.items():
        recording.log(f"score/{name}", rr.SeriesLine(color=colour, name=name), static=True)
    for index, view in enumerate(views):
        recording.set_time_sequence("frame", index)
        recording.set_time_seconds("time", view.frame.timestamp_us / 1e6)
        _log_frame(recording, view, data)
    recording.flush(blocking=True)
    recording.disconnect()


def _blueprint() -> Any:
    cameras = [rrb.Spatial2DView(origin=f"world/{name}", name=name) for name in CAMERAS]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", name="World"),
            rrb.Vertical(
                rrb.Grid(*cameras, grid_columns=3),
                rrb.TimeSeriesView(origin="score", name="Feature shift"),
                row_shares=[2, 1],
            ),
        )
    )


def _log_frame(recording: Any, view: FrameView, data: Store) -> None:
    recording.log("world/ego", _transform(view.world_from_ego))
    recording.log("world/ego/axes", rr.Arrows3D(vectors=[[3, 0, 0]], colors=[colours.DRIVEN], labels=["ego"]))
    for camera, pose in zip(view.frame.cameras, view.world_from_camera):
        entity = f"world/{camera.name}"
        recording.log(entity, _transform(pose))
        pinhole = rr.Pinhole(
            image_from_camera=camera.intrinsics,
            resolution=[camera.width, camera.height],
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=1.0,
        )
        recording.log(entity, pinhole)
        recording.log(entity, rr.EncodedImage(contents=read_image(data, camera.key), media_type="image/jpeg"))
    if view.points is not None:
        recording.log("world/points", rr.Points3D(view.points[:, :3], colors=[colours.POINTS], radii=[0.03]))
    _log_boxes(recording, "world/labels", view.labels, radius_m=0.05)
    _log_boxes(recording, "world/detections", view.detections, radius_m=0.02)
    _log_lines(recording, "world/map", view.map_lines)
    _log_lines(recording, "world/map_seen", view.map_seen)
    if len(view.driven_m) > 1:
        recording.log("world/driven", rr.LineStrips3D([view.driven_m], colors=[colours.DRIVEN]))
    if view.plan_m is not None:
        recording.log("world/plan", rr.LineStrips3D([view.plan_m], colors=[colours.PLAN], radii=[0.1]))
    for name, value in view.numbers.items():
        recording.log(f"score/{name}" if name in SHIFTS else f"key_frames/{name}", rr.Scalar(value))


def _transform(pose: Pose) -> Any:
    qw, qx, qy, qz = pose.rotation_wxyz
    return rr.Transform3D(translation=pose.translation_m, quaternion=rr.Quaternion(xyzw=[qx, qy, qz, qw]))


def _log_boxes(recording: Any, entity: str, boxes: list[ViewBox] | None, radius_m: float) -> None:
    """Nothing where the frame has none of the kind: what the frame before showed must go, too."""
    if not boxes:
        recording.log(entity, rr.Clear(recursive=False))
        return
    turns = [rr.Quaternion(xyzw=[*box.rotation_wxyz[1:], box.rotation_wxyz[0]]) for box in boxes]
    shown = rr.Boxes3D(
        centers=[box.center_m for box in boxes],
        half_sizes=np.array([box.size_lwh_m for box in boxes]) / 2,
        quaternions=turns,
        colors=[colours.of_class(box.label) for box in boxes],
        labels=[box.text for box in boxes],
        radii=[radius_m],
        show_labels=False,
    )
    recording.log(entity, shown)


def _log_lines(recording: Any, entity: str, lines: list[ViewLine] | None) -> None:
    if not lines:
        recording.log(entity, rr.Clear(recursive=False))
        return
    strips = [line.points_m for line in lines]
    recording.log(entity, rr.LineStrips3D(strips, colors=[colours.MAP[line.label] for line in lines]))
