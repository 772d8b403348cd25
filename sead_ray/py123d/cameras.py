"""Six of a log's pinhole cameras in the place of nuScenes' six."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, composed, inverse
from sead_ray.image_keys import row_key
from sead_ray.py123d.arrow_log import ArrowLog
from sead_ray.py123d.folder import SENSORS
from sead_ray.py123d.trajectory import Trajectory, pose_of
from sead_ray.records import CAMERAS, Camera

# py123d numbers the cameras of a side from front to back; nuScenes has two a side, at 55 and 110 degrees.
USUAL = {
    "CAM_FRONT": "pcam_f0",
    "CAM_FRONT_RIGHT": "pcam_r0",
    "CAM_FRONT_LEFT": "pcam_l0",
    "CAM_BACK": "pcam_b0",
    "CAM_BACK_LEFT": "pcam_l1",
    "CAM_BACK_RIGHT": "pcam_r1",
}

MAX_OFFSET_US = 100_000  # a camera of 10 Hz has an image within half of that


def camera_modalities(log: ArrowLog, chosen: Mapping[str, str]) -> dict[str, str]:
    """nuScenes' camera name -> modality of the log, in VAD's order.

    Args:
        chosen: `data.cameras`, what differs from `USUAL`.

    Raises:
        InputError: a name that nuScenes does not have, a camera that the log does not have.
    """
    if unknown := sorted(set(chosen) - set(CAMERAS)):
        raise InputError(f"data.cameras names {unknown[0]!r}, which is none of {', '.join(CAMERAS)}.")
    ids = USUAL | {name: camera.removeprefix("camera.") for name, camera in chosen.items()}
    if len(set(ids.values())) < len(ids):
        raise InputError(f"data.cameras gives one camera two places: {', '.join(ids.values())}.")
    there = [name.removeprefix("camera.") for name in log.modalities if name.startswith("camera.")]
    for name in CAMERAS:
        if ids[name] not in there:
            raise InputError(
                f"Log {log.name} has no camera {ids[name]} to stand for {name}, only {', '.join(there) or 'none'}: VAD "
                "needs six; data.cameras names others."
            )
    return {name: f"camera.{ids[name]}" for name in CAMERAS}


def image_rows(log: ArrowLog, modality: str) -> NDArray[np.int64]:
    """Row of the image nearest in time to each row of `sync`, -1 where none lies within `MAX_OFFSET_US`.

    Not the row that `sync` names: py123d takes what falls between two of its rows, and where a shutter opens a little
    late that is no image, or one from half a second ago.

    Raises:
        InputError: `sync` names a row that the file does not have.
    """
    taken_us = log.columns(modality, ["timestamp_us"]).column("timestamp_us").to_numpy()
    if (last := int(log.rows(modality).max(initial=-1))) >= len(taken_us):
        raise InputError(f"{log.path('sync')} asks for row {last} of {log.path(modality)}, which has {len(taken_us)}.")
    wanted_us = log.sync.column("timestamp_us").to_numpy()
    if not len(taken_us):
        return np.full(len(wanted_us), -1, np.int64)
    after = np.searchsorted(taken_us, wanted_us).clip(0, len(taken_us) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(taken_us[before] - wanted_us) <= np.abs(taken_us[after] - wanted_us), before, after)
    return np.where(np.abs(taken_us[nearest] - wanted_us) <= MAX_OFFSET_US, nearest, -1)


@dataclass(frozen=True)
class LogCamera:
    """One camera of a log: its calibration, and a row an image."""

    name: str
    log: ArrowLog
    modality: str
    width: int
    height: int
    intrinsics: NDArray[np.float64]
    ego_from_camera: Pose
    is_distorted: bool
    rows: pa.Table
    row_of: NDArray[np.int64]  # of each row of `sync`
    images: Sequence[str]  # keys of files; empty where the images lie in the Arrow file itself

    def camera(self, sync_row: int, trajectory: Trajectory) -> Camera:
        """The image that belongs to a row of `sync`."""
        row = int(self.row_of[sync_row])
        time_us = self.rows.column("timestamp_us")[row].as_py()
        seen_from = self.rows.column("camera_to_global_se3")[row].as_py()
        if seen_from is None:  # left to the trajectory, as py123d reads it
            global_from_ego = trajectory.global_from_ego(time_us)
        else:
            owner = f"camera_to_global_se3 of {self.log.path(self.modality)} at {time_us}"
            global_from_ego = composed(pose_of(seen_from, owner), inverse(self.ego_from_camera))
        key = self.images[row] if self.images else row_key(self.log.file(self.modality), row)
        return Camera(
            name=self.name,
            key=key,
            width=self.width,
            height=self.height,
            timestamp_us=time_us,
            intrinsics=self.intrinsics,
            ego_from_camera=self.ego_from_camera,
            global_from_ego=global_from_ego,
        )


def read_camera(log: ArrowLog, name: str, modality: str, imu_from_ego: Pose) -> LogCamera:
    """The camera that stands for nuScenes' `name`.

    Raises:
        InputError: no pinhole camera, no intrinsics, images in a video or nowhere; names the file.
    """
    path, facts = log.path(modality), log.metadata(modality)
    if facts.get("camera_model") != "pinhole":
        raise InputError(f"{path} is of a {facts.get('camera_model')} camera: VAD projects through pinholes.")
    intrinsics, size = facts.get("intrinsics"), (facts.get("width"), facts.get("height"))
    if not isinstance(intrinsics, list) or len(intrinsics) != 5 or not np.isfinite(intrinsics).all():
        raise InputError(f"{path} has no intrinsics (fx, fy, cx, cy, skew).")
    if not all(isinstance(pixels, int) and pixels > 0 for pixels in size):
        raise InputError(f"{path} has the size {size[0]} x {size[1]}.")
    fx, fy, cx, cy, skew = intrinsics
    imu_from_camera = pose_of(facts.get("camera_to_imu_se3"), f"camera_to_imu_se3 of {path}")
    return LogCamera(
        name=name,
        log=log,
        modality=modality,
        width=int(size[0] or 0),
        height=int(size[1] or 0),
        intrinsics=np.array([[fx, skew, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]),
        ego_from_camera=composed(inverse(imu_from_ego), imu_from_camera),
        is_distorted=not facts.get("is_undistorted", False) and any(facts.get("distortion") or []),
        rows=log.columns(modality, ["timestamp_us", "camera_to_global_se3"]),
        row_of=image_rows(log, modality),
        images=_image_files(log, modality),
    )


def _image_files(log: ArrowLog, modality: str) -> list[str]:
    """Keys of the files whose paths the log holds; none where it holds the images."""
    kind: Any = log.store.arrow_file(log.file(modality)).schema.field(f"{modality}.data").type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return []
    if not pa.types.is_string(kind):
        raise InputError(f"{log.path(modality)} counts the frames of a video: convert with camera_store_option path.")
    paths = log.columns(modality, ["data"]).column("data").to_pylist()
    dataset = log.metadata().get("dataset")
    return [f"{SENSORS}/{dataset}/{path}" for path in paths]
