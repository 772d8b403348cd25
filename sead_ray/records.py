"""The records that stages hand each other; their Parquet schemas are in `schemas.py`.

A `Clip` has no place for a label: whatever costs an annotation lives in `FrameLabels`, in a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sead_ray.geometry import Pose
from sead_ray.schemas import CLIP_SCHEMA, SCHEMA_VERSION

# VAD's camera order; `cams_embeds` is indexed by it.
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")

# VAD's class order (nuScenes detection names).
AGENT_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
# The annotated part of nuScenes' lidarseg-expanded category table, in its order (0 = noise): VAD's metric looks up
# rows 2-8 for people and 14-23 for vehicles.
OBJECT_CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
)
MAP_CLASSES = ("divider", "ped_crossing", "boundary")

FUTURE_STEPS = 6  # 3 s at 2 Hz
MAP_POINTS = 20


class Command(IntEnum):
    """Driving command in VAD's one-hot order."""

    RIGHT = 0
    LEFT = 1
    STRAIGHT = 2


@dataclass(frozen=True)
class Camera:
    """One image of a key frame. `key` is the path below the data root."""

    name: str
    key: str
    width: int
    height: int
    timestamp_us: int
    intrinsics: NDArray[np.float64]  # (3, 3) at width x height
    ego_from_camera: Pose
    global_from_ego: Pose  # at the camera's own time stamp


@dataclass(frozen=True)
class Frame:
    """One key frame: everything that comes without annotation."""

    token: str
    timestamp_us: int  # of LIDAR_TOP
    global_from_ego: Pose  # at the lidar's time stamp
    ego_from_lidar: Pose
    can_bus: NDArray[np.float64]  # (18,) absolute values, reference/VAD layout
    command: Command
    cameras: tuple[Camera, ...]  # in the order of CAMERAS
    ego_state: NDArray[np.float64] = field(default_factory=lambda: np.zeros(9))  # see nuscenes.ego_state

    @property
    def global_from_lidar(self) -> NDArray[np.float64]:
        """(4, 4)"""
        return self.global_from_ego.matrix @ self.ego_from_lidar.matrix


@dataclass(frozen=True)
class Clip:
    """One scene of key frames, and what free data say of it."""

    clip_token: str
    name: str
    log_token: str
    location: str
    split: str  # "pool" | "val": the role in a run
    description: str
    is_night: bool
    is_rainy: bool
    behaviour: str  # straight | left | right | overtake
    acc_std_mps2: float
    yaw_sum_rad: float
    dynamics_source: str  # can (of py123d: the log's dynamic states) | pose
    frames: tuple[Frame, ...]

    @property
    def global_from_lidar(self) -> NDArray[np.float64]:
        """(T, 4, 4) of the key frames."""
        return np.stack([frame.global_from_lidar for frame in self.frames])

    def to_row(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in CLIP_SCHEMA.names if name not in ("schema_version", "frames")}
        return {"schema_version": SCHEMA_VERSION, **row, "frames": [_frame_row(frame) for frame in self.frames]}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Clip:
        values = {name: row[name] for name in CLIP_SCHEMA.names if name not in ("schema_version", "frames")}
        return cls(**values, frames=tuple(_frame_from_row(frame) for frame in row["frames"]))


@dataclass(frozen=True)
class Annotation:
    """One annotated box, as nuScenes has it: global frame, box centre, heading counter-clockwise."""

    instance_token: str
    category: str  # nuScenes category name
    category_index: int  # row in the lidarseg-expanded category table
    translation_m: tuple[float, float, float]
    size_wlh_m: tuple[float, float, float]
    rotation_wxyz: tuple[float, float, float, float]
    n_lidar_points: int
    n_radar_points: int
    attribute: str = ""  # nuScenes attribute name ("vehicle.parked"); empty where none was given


@dataclass(frozen=True)
class MapVector:
    """One map element of a frame: an open or closed (first vertex repeated) polyline in the lidar frame."""

    map_class: int  # index into MAP_CLASSES
    points_m: NDArray[np.float64]  # (n, 2), n >= 2, clipped to the patch, not resampled


@dataclass(frozen=True)
class FrameLabels:
    """What annotators deliver for one key frame."""

    frame_token: str
    clip_token: str
    timestamp_us: int
    annotations: tuple[Annotation, ...]
    map_vectors: tuple[MapVector, ...]

    def to_row(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "frame_token": self.frame_token,
            "clip_token": self.clip_token,
            "timestamp_us": self.timestamp_us,
            "annotations": [dict(vars(annotation)) for annotation in self.annotations],
            "map_vectors": [
                {"map_class": vector.map_class, "points_m": vector.points_m.reshape(-1).tolist()}
                for vector in self.map_vectors
            ],
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> FrameLabels:
        annotations = tuple(
            Annotation(
                instance_token=item["instance_token"],
                category=item["category"],
                category_index=item["category_index"],
                translation_m=tuple(item["translation_m"]),
                size_wlh_m=tuple(item["size_wlh_m"]),
                rotation_wxyz=tuple(item["rotation_wxyz"]),
                n_lidar_points=item["n_lidar_points"],
                n_radar_points=item["n_radar_points"],
                attribute=item.get("attribute") or "",
            )
            for item in row["annotations"]
        )
        vectors = tuple(
            MapVector(item["map_class"], np.asarray(item["points_m"], np.float64).reshape(-1, 2))
            for item in row["map_vectors"]
        )
        return cls(row["frame_token"], row["clip_token"], row["timestamp_us"], annotations, vectors)


@dataclass(frozen=True)
class ClipScore:
    """What scoring says of one clip. One without a score has another status than "ok", a reason, and empty lists."""

    clip_token: str
    model_version: str
    status: str  # ok | failed (too short, times that do not grow, …) | quarantined (could not be read or computed)
    reason: str = ""
    n_frames: int = 0
    dt_s: float = 0.0  # median key-frame interval
    shift_agents: list[float] = field(default_factory=list)  # one per transition (Eq. 2)
    shift_map: list[float] = field(default_factory=list)
    n_transitions: int = 0
    shift_sum: float = 0.0  # Eq. 3
    shift_mean: float = 0.0
    min_distance_m: list[float] = field(default_factory=list)  # inf where nobody is detected
    is_key: list[bool] = field(default_factory=list)  # Eq. 4
    key_start: int = 0  # of the longest run; key_length 0 where there is none
    key_length: int = 0
    max_confidence: float = 0.0  # of a road participant, over the clip: tells an under-trained model
    embedding: list[float] = field(default_factory=list)
    displacement_error_m: float = 0.0  # planned against recorded path, mean over frames and steps
    soft_collision: float = 0.0
    agent_uncertainty: float = 0.0
    shift_agents_sum: float = 0.0  # the agents' part of shift_sum
    shift_map_sum: float = 0.0
    shift_bev: list[float] = field(default_factory=list)  # one per transition, where it was asked for
    shift_bev_sum: float | None = None
    selectable: bool = True  # False: labelled already, scored for its features only
    plan_m: list[float] = field(default_factory=list)  # (6, 2) flat: planned positions from frame key_start, its lidar

    def to_row(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **vars(self)}


@dataclass(frozen=True)
class ClipFeatures:
    """What the starting backbone sees of one clip, before any model is trained."""

    clip_token: str
    model_version: str  # of the starting model
    status: str  # ok | quarantined
    reason: str = ""
    n_frames: int = 0
    embedding: list[float] = field(default_factory=list)  # mean of the last stage over pixels, cameras and frames
    front_image: bytes = b""  # 32 x 32 x 3, RGB: the front camera of the middle frame

    def to_row(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **vars(self)}


@dataclass(frozen=True)
class Selection:
    """One bought run of frames [frame_start, frame_stop) of a clip. A clip may be selected with no frame."""

    round: int
    clip_token: str
    frame_start: int
    frame_stop: int
    rank: int
    score: float | None
    stratum: str
    reason: str
    n_frames_bought: int

    def to_row(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **vars(self)}


def _pose_row(pose: Pose) -> list[float]:
    return [*map(float, pose.translation_m), *map(float, pose.rotation_wxyz)]


def _pose_from_row(values: list[float]) -> Pose:
    x, y, z, qw, qx, qy, qz = values
    return Pose((x, y, z), (qw, qx, qy, qz))


def _frame_row(frame: Frame) -> dict[str, Any]:
    return {
        "token": frame.token,
        "timestamp_us": frame.timestamp_us,
        "global_from_ego": _pose_row(frame.global_from_ego),
        "ego_from_lidar": _pose_row(frame.ego_from_lidar),
        "can_bus": [float(value) for value in frame.can_bus],
        "ego_state": [float(value) for value in frame.ego_state],
        "command": int(frame.command),
        "cameras": [
            {
                "name": camera.name,
                "key": camera.key,
                "width": camera.width,
                "height": camera.height,
                "timestamp_us": camera.timestamp_us,
                "intrinsics": [float(value) for value in np.asarray(camera.intrinsics).reshape(-1)],
                "ego_from_camera": _pose_row(camera.ego_from_camera),
                "global_from_ego": _pose_row(camera.global_from_ego),
            }
            for camera in frame.cameras
        ],
    }


def _frame_from_row(row: dict[str, Any]) -> Frame:
    cameras = tuple(
        Camera(
            name=item["name"],
            key=item["key"],
            width=item["width"],
            height=item["height"],
            timestamp_us=item["timestamp_us"],
            intrinsics=np.asarray(item["intrinsics"], np.float64).reshape(3, 3),
            ego_from_camera=_pose_from_row(item["ego_from_camera"]),
            global_from_ego=_pose_from_row(item["global_from_ego"]),
        )
        for item in row["cameras"]
    )
    return Frame(
        token=row["token"],
        timestamp_us=row["timestamp_us"],
        global_from_ego=_pose_from_row(row["global_from_ego"]),
        ego_from_lidar=_pose_from_row(row["ego_from_lidar"]),
        can_bus=np.asarray(row["can_bus"], np.float64),
        ego_state=np.asarray(row.get("ego_state") or [0.0] * 9, np.float64),
        command=Command(row["command"]),
        cameras=cameras,
    )
