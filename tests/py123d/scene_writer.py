"""Logs written by hand in the format of py123d 0.7.0, as its `ArrowLogWriter` and `ArrowMapWriter` lay them down."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
import pyarrow as pa
import shapely
from scipy.spatial.transform import Rotation

WIDTH, HEIGHT = 160, 90
START_US = 1_620_000_000_000_000
SPEED_MPS = 6.0
IDENTITY = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
LIDAR = [1.0, 0.1, 1.9, 1.0, 0.0, 0.0, 0.0]  # x ahead, as on nuPlan's cars
CAMERA_YAW_DEG = {"f0": 0, "l0": 55, "r0": -55, "l1": 110, "r1": -110, "l2": 145, "r2": -145, "b0": 180}
CAMERA_IDS = {"f0": 0, "b0": 1, "l0": 2, "l1": 3, "l2": 4, "r0": 5, "r1": 6, "r2": 7}
_POSE, _UUID_SPACE = pa.list_(pa.float64(), 7), uuid.UUID("123D123D-123D-123D-123D-123D123D123D")


@dataclass(frozen=True)
class LogPlan:
    """One log: an arc at constant speed, sampled `rate_hz` times a second."""

    split: str
    name: str
    yaw_rate: float = 0.0
    n_rows: int = 8
    rate_hz: int = 2
    embedded: bool = True  # images inside the Arrow files; else paths of files
    with_boxes: bool = True
    with_motion: bool = True
    cameras: Sequence[str] = tuple(CAMERA_YAW_DEG)
    dataset: str = "nuplan"
    location: str = "us-nv-las-vegas-strip"
    label_class: str = "py123d.parser.registry.NuPlanBoxDetectionLabel"

    @property
    def times_us(self) -> list[int]:
        return [START_US + round(row * 1e6 / self.rate_hz) for row in range(self.n_rows)]


def ego_pose(plan: LogPlan, time_us: int) -> list[float]:
    time_s = (time_us - START_US) * 1e-6
    yaw = plan.yaw_rate * time_s
    if plan.yaw_rate:
        radius = SPEED_MPS / plan.yaw_rate
        x, y = radius * np.sin(yaw), radius * (1 - np.cos(yaw))
    else:
        x, y = SPEED_MPS * time_s, 0.0
    return [1000.0 + x, 2000.0 + y, 5.0, float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def camera_mounting(name: str) -> list[float]:
    """Camera to IMU; z looks ahead of the camera, y down."""
    turn = Rotation.from_euler("z", CAMERA_YAW_DEG[name], degrees=True) * Rotation.from_quat([-0.5, 0.5, -0.5, 0.5])
    x, y, z, w = turn.as_quat()
    return [1.5, 0.0, 1.5, w, x, y, z]


def product(outer: Sequence[float], inner: Sequence[float]) -> list[float]:
    turn = Rotation.from_quat(np.roll(outer[3:], -1))
    xyz = turn.apply(inner[:3]) + outer[:3]
    x, y, z, w = (turn * Rotation.from_quat(np.roll(inner[3:], -1))).as_quat()
    return [*xyz.tolist(), w, x, y, z]


def write_arrow(
    path: Path, columns: dict[str, tuple[pa.DataType, list[Any]]], metadata: Any, batch: int = 1000
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, kind) for name, (kind, _) in columns.items()])
    schema = schema.with_metadata({b"metadata": msgpack.packb(metadata, use_bin_type=True)})
    n_rows = len(next(iter(columns.values()))[1])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, n_rows, batch):
            part = {name: values[start : start + batch] for name, (_, values) in columns.items()}
            writer.write_batch(pa.record_batch(part, schema=schema))


def write_log(root: Path, plan: LogPlan) -> Path:
    folder = root / "logs" / plan.split / plan.name
    modalities = ["ego_state_se3", *(f"camera.pcam_{name}" for name in plan.cameras)]
    _write_ego(folder, plan)
    for name in plan.cameras:
        _write_camera(root, folder, plan, name)
    if plan.with_boxes:
        _write_boxes(folder, plan)
        modalities.append("box_detections_se3")
    lidar = {"lidar_name": "top", "lidar_id": 2, "lidar_to_imu_se3": LIDAR, "segmentation_label_class": None}
    write_arrow(
        folder / "lidar.lidar_merged.arrow",
        {"lidar.lidar_merged.timestamp_us": (pa.int64(), plan.times_us)},
        {"2": lidar},
    )
    uuids = [uuid.uuid5(_UUID_SPACE, f"{plan.split}:{plan.name}:{time}").bytes for time in plan.times_us]
    rows = list(range(plan.n_rows))
    write_arrow(
        folder / "sync.arrow",
        {"sync.uuid": (pa.uuid(), uuids), "sync.timestamp_us": (pa.int64(), plan.times_us)}
        | {name: (pa.int64(), rows) for name in modalities},
        {"dataset": plan.dataset, "split": plan.split, "log_name": plan.name, "location": plan.location}
        | {"version": "0.7.0", "map_metadata": None},
    )
    return folder


def _write_ego(folder: Path, plan: LogPlan) -> None:
    key = "ego_state_se3"
    motion = [SPEED_MPS, 0.0, 0.0, 0.1, SPEED_MPS * plan.yaw_rate, 0.0, 0.0, 0.0, plan.yaw_rate]
    states = [[*motion[:4], motion[4] + 0.1 * (row % 2), *motion[5:]] for row in range(plan.n_rows)]
    write_arrow(
        folder / f"{key}.arrow",
        {
            f"{key}.timestamp_us": (pa.int64(), plan.times_us),
            f"{key}.imu_se3": (_POSE, [ego_pose(plan, time) for time in plan.times_us]),
            f"{key}.dynamic_state_se3": (
                pa.list_(pa.float64(), 9),
                states if plan.with_motion else [None] * plan.n_rows,
            ),
        },
        {"vehicle_name": "pacifica", "width": 2.3, "length": 5.2, "height": 1.8, "wheel_base": 3.1}
        | {"center_to_imu_se3": [1.461, 0.0, 0.45, 1.0, 0.0, 0.0, 0.0], "rear_axle_to_imu_se3": IDENTITY},
    )


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 16, 3)).astype(np.uint8)
    done, data = cv2.imencode(".jpg", cv2.resize(pixels, (WIDTH, HEIGHT)))
    assert done
    return data.tobytes()


def _write_camera(root: Path, folder: Path, plan: LogPlan, name: str) -> None:
    key = f"camera.pcam_{name}"
    images = [jpeg(CAMERA_IDS[name] * 1000 + row) for row in range(plan.n_rows)]
    data: list[Any] = images
    if not plan.embedded:
        data = [f"{plan.name}/{name}/{row:04d}.jpg" for row in range(plan.n_rows)]
        for path, image in zip(data, images, strict=True):
            file = root / "sensors" / plan.dataset / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
    mounting = camera_mounting(name)
    seen_from = [product(ego_pose(plan, time), mounting) for time in plan.times_us]
    write_arrow(
        folder / f"{key}.arrow",
        {
            f"{key}.timestamp_us": (pa.int64(), plan.times_us),
            f"{key}.data": (pa.binary() if plan.embedded else pa.string(), data),
            # Left to the ego's trajectory in logs of paths, as py123d allows.
            f"{key}.camera_to_global_se3": (_POSE, seen_from if plan.embedded else [None] * plan.n_rows),
            f"{key}.exposure_factor": (pa.float32(), [None] * plan.n_rows),
        },
        {"camera_model": "pinhole", "camera_name": name, "camera_id": CAMERA_IDS[name], "distortion": None}
        | {"intrinsics": [120.0, 121.0, 80.0, 45.0, 0.0], "width": WIDTH, "height": HEIGHT}
        | {"camera_to_imu_se3": mounting, "is_undistorted": True},
        batch=3,  # py123d flushes images by tens; rows of several batches must be found
    )


def _write_boxes(folder: Path, plan: LogPlan) -> None:
    """A car that drives ahead of the ego, a pedestrian that stands, a sign that is no object."""
    key = "box_detections_se3"
    boxes = []
    for time in plan.times_us:
        pose = ego_pose(plan, time)
        ahead = product(pose, [12.0, 2.0, 0.8, 1.0, 0.0, 0.0, 0.0])
        standing = product(ego_pose(plan, START_US), [9.0, -4.0, 0.9, 1.0, 0.0, 0.0, 0.0])
        boxes.append([[*ahead, 4.5, 1.9, 1.6], [*standing, 0.6, 0.7, 1.8], [*standing, 0.2, 0.2, 0.5]])
    write_arrow(
        folder / f"{key}.arrow",
        {
            f"{key}.timestamp_us": (pa.int64(), plan.times_us),
            f"{key}.bounding_box_se3": (pa.list_(pa.list_(pa.float64(), 10)), boxes),
            f"{key}.track_token": (pa.list_(pa.string()), [["car", "walker", "sign"]] * plan.n_rows),
            f"{key}.label": (pa.list_(pa.uint16()), [[0, 2, 5]] * plan.n_rows),
            f"{key}.velocity_3d": (pa.list_(pa.list_(pa.float64(), 3)), [[[0.0] * 3] * 3] * plan.n_rows),
            f"{key}.num_lidar_points": (pa.list_(pa.int32()), [[7, None, None]] * plan.n_rows),
        },
        {"box_detection_label_class": plan.label_class},
    )


def write_map(path: Path, dataset: str = "nuplan", location: str = "us-nv-las-vegas-strip") -> None:
    """A road along the first metres of every log, with a painted line, a crossing and an edge."""
    shapes = [
        (0, shapely.box(900, 1996, 1200, 2004)),
        (2, shapely.box(1200, 1980, 1240, 2020)),
        (3, shapely.box(1010, 1996, 1014, 2004)),
        (9, shapely.LineString([(900, 2002, 1.0), (1200, 2002, 1.0)])),
        (8, shapely.LineString([(900, 1996), (1200, 1996)])),
    ]
    write_arrow(
        path,
        {
            "object_id": (pa.int64(), list(range(len(shapes)))),
            "map_layer": (pa.int8(), [layer for layer, _ in shapes]),
            "features": (pa.binary(), [msgpack.packb({"road_line_type": 4})] * len(shapes)),
            "wkb": (pa.binary(), [shapely.to_wkb(shape) for _, shape in shapes]),
        },
        {"dataset": dataset, "split": None, "log_name": None, "location": location, "map_has_z": True}
        | {"map_is_per_log": False, "version": "0.7.0"},
    )


def edited(path: Path, change: Callable[[dict[str, Any], list[dict[str, Any]]], Any]) -> None:
    """`change` alters a file's metadata and rows in place."""
    with pa.OSFile(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    metadata, rows = msgpack.unpackb(table.schema.metadata[b"metadata"], strict_map_key=False), table.to_pylist()
    change(metadata, rows)
    schema = table.schema.with_metadata({b"metadata": msgpack.packb(metadata)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
