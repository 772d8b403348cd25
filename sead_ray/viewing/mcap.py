"""An MCAP file for Foxglove (the extra `view`): messages of Foxglove's own schemas, and the score as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CameraCalibration_pb2 import CameraCalibration
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.FrameTransform_pb2 import FrameTransform
from foxglove_schemas_protobuf.LinePrimitive_pb2 import LinePrimitive
from foxglove_schemas_protobuf.PackedElementField_pb2 import PackedElementField
from foxglove_schemas_protobuf.PointCloud_pb2 import PointCloud
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from mcap.writer import Writer
from mcap_protobuf.schema import build_file_descriptor_set

from sead_ray.geometry import Pose
from sead_ray.image_keys import read_image
from sead_ray.records import Camera, Clip
from sead_ray.storage import Store
from sead_ray.viewing import colours
from sead_ray.viewing.view import FrameView, ViewBox, ViewLine

WORLD = "world"
_NUMBERS = ("shift_agents", "shift_map", "is_key", "nearest_m")
_SCORE_SCHEMA = {"type": "object", "properties": {name: {"type": "number"} for name in _NUMBERS}}


def write_mcap(clip: Clip, views: Sequence[FrameView], data: Store, path: str) -> None:
    """Writes the file: /tf, images and calibrations, /labels, /detections, /map, /plan, /driven, /points, /score.

    Raises:
        InputError: an image is missing.
    """
    with open(path, "wb") as file:
        out = _Messages(Writer(file))
        out.start(clip)
        for view in views:
            _write_frame(out, view, data)
        out.writer.finish()


class _Messages:
    """Registers each topic at its first message."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    def start(self, clip: Clip) -> None:
        self.writer.start(profile="", library="sead_ray")
        facts = {"clip_token": clip.clip_token, "name": clip.name, "location": clip.location}
        self.writer.add_metadata("clip", facts)

    def add(self, topic: str, message: Any, time_ns: int) -> None:
        """A protobuf message of Foxglove's, stamped with the time."""
        kind = message.DESCRIPTOR.full_name
        if kind not in self._schemas:
            described = build_file_descriptor_set(type(message)).SerializeToString()
            self._schemas[kind] = self.writer.register_schema(kind, "protobuf", described)
        if topic not in self._channels:
            self._channels[topic] = self.writer.register_channel(topic, "protobuf", self._schemas[kind])
        self.writer.add_message(self._channels[topic], time_ns, message.SerializeToString(), time_ns)

    def add_numbers(self, topic: str, numbers: dict[str, float], time_ns: int) -> None:
        if topic not in self._channels:
            schema = self.writer.register_schema("sead_ray.Score", "jsonschema", json.dumps(_SCORE_SCHEMA).encode())
            self._channels[topic] = self.writer.register_channel(topic, "json", schema)
        self.writer.add_message(self._channels[topic], time_ns, json.dumps(numbers).encode(), time_ns)


def _write_frame(out: _Messages, view: FrameView, data: Store) -> None:
    now_ns = view.frame.timestamp_us * 1000
    out.add("/tf", _transform("ego", view.world_from_ego, now_ns), now_ns)
    for camera, pose in zip(view.frame.cameras, view.world_from_camera):
        taken_ns = camera.timestamp_us * 1000
        out.add("/tf", _transform(camera.name, pose, taken_ns), taken_ns)
        out.add(f"/{camera.name}/calibration", _calibration(camera, taken_ns), taken_ns)
        image = CompressedImage(frame_id=camera.name, format="jpeg", data=read_image(data, camera.key))
        image.timestamp.FromNanoseconds(taken_ns)
        out.add(f"/{camera.name}/image", image, taken_ns)
    if view.points is not None:
        out.add("/points", _cloud(view.points, now_ns), now_ns)
    for topic, boxes, alpha in (("/labels", view.labels, 0.5), ("/detections", view.detections, 0.25)):
        if boxes is not None:
            out.add(topic, _boxes(boxes, alpha, now_ns), now_ns)
    for topic, lines in (("/map", view.map_lines), ("/map_seen", view.map_seen)):
        if lines is not None:
            out.add(topic, _map(lines, now_ns), now_ns)
    out.add("/driven", _path(view.driven_m, colours.DRIVEN, now_ns), now_ns)
    if view.plan_m is not None:
        out.add("/plan", _path(view.plan_m, colours.PLAN, now_ns), now_ns)
    if view.numbers:
        out.add_numbers("/score", view.numbers, now_ns)


def _transform(child: str, pose: Pose, time_ns: int) -> FrameTransform:
    message = FrameTransform(parent_frame_id=WORLD, child_frame_id=child)
    message.timestamp.FromNanoseconds(time_ns)
    _place(message.translation, message.rotation, pose.translation_m, pose.rotation_wxyz)
    return message


def _place(position: Any, orientation: Any, place_m: Iterable[float], rotation_wxyz: Iterable[float]) -> None:
    position.x, position.y, position.z = place_m
    orientation.w, orientation.x, orientation.y, orientation.z = rotation_wxyz


def _calibration(camera: Camera, time_ns: int) -> CameraCalibration:
    projection = np.concatenate([camera.intrinsics, np.zeros((3, 1))], axis=1)
    message = CameraCalibration(
        frame_id=camera.name,
        width=camera.width,
        height=camera.height,
        K=camera.intrinsics.reshape(-1).tolist(),
        P=projection.reshape(-1).tolist(),
        R=np.eye(3).reshape(-1).tolist(),
    )
    message.timestamp.FromNanoseconds(time_ns)
    return message


def _cloud(points: np.ndarray, time_ns: int) -> PointCloud:
    message = PointCloud(frame_id=WORLD, point_stride=16, data=np.ascontiguousarray(points, "<f4").tobytes())
    message.timestamp.FromNanoseconds(time_ns)
    message.pose.orientation.w = 1.0
    for number, name in enumerate(("x", "y", "z", "intensity")):
        message.fields.add(name=name, offset=4 * number, type=PackedElementField.FLOAT32)
    return message


def _scene(time_ns: int) -> tuple[SceneUpdate, Any]:
    """A scene with one entity, which replaces that of the frame before."""
    message = SceneUpdate()
    entity = message.entities.add(frame_id=WORLD, id="all")
    entity.timestamp.FromNanoseconds(time_ns)
    return message, entity


def _boxes(boxes: list[ViewBox], alpha: float, time_ns: int) -> SceneUpdate:
    message, entity = _scene(time_ns)
    for box in boxes:
        cube = entity.cubes.add()
        _place(cube.pose.position, cube.pose.orientation, box.center_m, box.rotation_wxyz)
        cube.size.x, cube.size.y, cube.size.z = box.size_lwh_m
        _paint(cube.color, colours.of_class(box.label), alpha)
        text = entity.texts.add(text=box.text, billboard=True, font_size=12, scale_invariant=True)
        text.pose.position.x, text.pose.position.y = box.center_m[:2]
        text.pose.position.z = box.center_m[2] + box.size_lwh_m[2] / 2 + 0.3
        text.pose.orientation.w = 1.0
        _paint(text.color, colours.of_class(box.label), 1.0)
    return message


def _map(lines: list[ViewLine], time_ns: int) -> SceneUpdate:
    message, entity = _scene(time_ns)
    for line in lines:
        _add_line(entity, line.points_m, colours.MAP[line.label], 0.05)
    return message


def _path(points_m: np.ndarray, colour: colours.RGB, time_ns: int) -> SceneUpdate:
    message, entity = _scene(time_ns)
    _add_line(entity, points_m, colour, 0.2)
    return message


def _add_line(entity: Any, points_m: np.ndarray, colour: colours.RGB, thickness_m: float) -> None:
    line = entity.lines.add(type=LinePrimitive.LINE_STRIP, thickness=thickness_m)
    line.pose.orientation.w = 1.0
    for x, y, z in points_m.tolist():
        line.points.add(x=x, y=y, z=z)
    _paint(line.color, colour, 1.0)


def _paint(target: Any, colour: colours.RGB, alpha: float) -> None:
    target.r, target.g, target.b = (value / 255 for value in colour)
    target.a = alpha
