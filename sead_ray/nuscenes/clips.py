"""A nuScenes folder as clips. Nothing here opens an annotation table; `NuScenesFolder.labels` asks `labels`."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.geometry import Pose
from sead_ray.nuscenes.can_bus import CanPoses, can_bus_vector, read_can_poses, read_can_steering, require_folder
from sead_ray.nuscenes.commands import behaviour_of
from sead_ray.nuscenes.conditions import is_night, is_rainy
from sead_ray.nuscenes.drive import clip_dynamics, driven_frames
from sead_ray.nuscenes.splits import Split, is_list, name_of, split_scene_names
from sead_ray.nuscenes.tables import (
    LIDAR,
    DriveTables,
    Row,
    Table,
    TableSource,
    check_unit,
    key_frame,
    numbers_of,
    partner,
    read_drive_tables,
    read_table,
    scene_samples,
)
from sead_ray.records import CAMERAS, Camera, Clip, Command, Frame, FrameLabels
from sead_ray.storage import Store

if TYPE_CHECKING:
    from sead_ray.nuscenes.labels import LabelReader
    from sead_ray.nuscenes.map_vectors import LocationMap


class NuScenesFolder:
    """A folder of nuScenes v1.0; tables are read at the first use.

    Raises:
        InputError: at the constructor where the version folder, or the CAN folder that the settings ask for, is
            missing; later for every damaged row or file, by its token or name.
    """

    def __init__(
        self,
        data: DataConfig,
        tables: TableSource | None = None,
        maps: dict[str, LocationMap] | None = None,
        check_images: bool = True,
    ) -> None:
        """Workers on one scene of a large folder give that scene's `tables`, keep `maps` from scene to scene, and
        leave out `check_images`, one question to the file system an image, where the driver has asked them all."""
        if data.format != "nuscenes":
            raise InputError(f"data.format is {data.format}, but this command reads nuScenes' own tables.")
        self.data = data
        self.store = Store(data.root)
        self._source: TableSource = tables or self.store
        self._maps, self._check_images = maps, check_images
        if not self._source.exists(data.version):
            raise InputError(
                f"{self.store.path(data.version)} does not exist: data.root and data.version must name a folder."
            )
        if data.can_bus == "auto":
            require_folder(self.store)

    @cached_property
    def tables(self) -> DriveTables:
        return read_drive_tables(self._source, self.data.version)

    @cached_property
    def scene_rows(self) -> Table:
        """The scenes alone: what splits need."""
        return read_table(self._source, self.data.version, "scene")

    @cached_property
    def _label_reader(self) -> LabelReader:
        from sead_ray.nuscenes.labels import LabelReader  # late: clips must work where no annotation exists

        return LabelReader(self.store, self.data.version, self._source, self._maps)

    def scenes(self, split: Split) -> list[str]:
        """Tokens of the split's scenes that this folder holds, by name; of a list of names, all must be there."""
        names = set(split_scene_names(self.store, self.data.version, split))
        found = sorted((scene["name"], token) for token, scene in self.scene_rows.items() if scene["name"] in names)
        where = self.store.path(self.data.version)
        if is_list(split) and (missing := sorted(names - {name for name, _ in found})):
            raise InputError(f"Scene {missing[0]!r}, which {name_of(split)} names, is not in {where}/scene.json.")
        if not found:
            of_val = split == self.data.val_split
            hint = " (without a val split nothing is evaluated: data.val_split=null)" if of_val else ""
            raise InputError(f"{name_of(split)} has no scene in {where}{hint}.")
        return [token for _, token in found]

    def pool_scenes(self) -> list[str]:
        return self.scenes(self.data.pool_split)

    def val_scenes(self) -> list[str]:
        """Tokens of val's scenes; none where `data.val_split` is null."""
        return [] if self.data.val_split is None else self.scenes(self.data.val_split)

    def check_logs_disjoint(self) -> None:
        """Refuses a pool and a val split that share a scene, or (unless allowed) a log."""
        pool, val = self.pool_scenes(), self.val_scenes()
        scenes = self.scene_rows
        if shared := sorted(set(pool) & set(val)):
            raise InputError(f"Scene {shared[0]} ({scenes[shared[0]]['name']}) is in both the pool and val.")
        log_of = {token: scenes[token]["log_token"] for token in [*pool, *val]}
        shared = sorted({log_of[token] for token in pool} & {log_of[token] for token in val})
        if shared and not self.data.allow_shared_logs:
            mixed = [scenes[token]["name"] for token in pool if log_of[token] in shared]
            other = next(scenes[token]["name"] for token in val if log_of[token] == shared[0])
            raise InputError(
                f"Pool and val share {len(shared)} log(s), one is {shared[0]} (val's {other}): leave out the "
                f"{len(mixed)} scene(s) of the pool that lie in them "
                f"({', '.join(mixed[:3])}{', …' if len(mixed) > 3 else ''}), or set data.allow_shared_logs=true."
            )

    def clip(self, scene_token: str, role: Literal["pool", "val"]) -> Clip:
        """The scene's key frames, and what free data say of it."""
        scene = partner(self.tables.scenes, "scene", scene_token, "the caller")
        log = partner(self.tables.logs, "log", scene["log_token"], f"scene {scene_token}")
        samples = scene_samples(self.tables, scene)
        self._check_time(samples)
        start_us, stop_us = samples[0]["timestamp"], samples[-1]["timestamp"]
        use_can = self.data.can_bus == "auto"
        can = read_can_poses(self.store, scene["name"], start_us, stop_us) if use_can else None
        steering = read_can_steering(self.store, scene["name"]) if use_can else None
        frames = driven_frames([self._frame(sample, can) for sample in samples], can, steering, log["location"])
        acc, yaw = clip_dynamics(frames, can)
        return Clip(
            clip_token=scene_token,
            name=scene["name"],
            log_token=scene["log_token"],
            location=log["location"],
            split=role,
            description=scene["description"],
            is_night=is_night(scene["description"]),
            is_rainy=is_rainy(scene["description"]),
            behaviour=behaviour_of([frame.command for frame in frames], self.data.overtake_frames),
            acc_std_mps2=acc,
            yaw_sum_rad=yaw,
            dynamics_source="pose" if can is None else "can",
            frames=frames,
        )

    def dynamics(self, clip: Clip) -> dict[str, tuple[float, float]]:
        """Acc in m/s2 and Yaw in rad of each source there is: "can", "pose". They do not mix, see `dynamics`."""
        found = {"pose": clip_dynamics(clip.frames, None)}
        start_us, stop_us = clip.frames[0].timestamp_us, clip.frames[-1].timestamp_us
        can = read_can_poses(self.store, clip.name, start_us, stop_us) if self.data.can_bus == "auto" else None
        return found if can is None else {"can": clip_dynamics(clip.frames, can), **found}

    def labels(self, scene_token: str) -> list[FrameLabels]:
        """The oracle: annotations and map vectors of every key frame of the scene."""
        return self._label_reader.labels(self.clip(scene_token, "pool"))

    def _frame(self, sample: Row, can: CanPoses | None) -> Frame:
        lidar = key_frame(self.tables, sample["token"], LIDAR)
        global_from_ego = self._pose("ego_pose", lidar["ego_pose_token"], lidar["token"])
        return Frame(
            token=sample["token"],
            timestamp_us=sample["timestamp"],
            global_from_ego=global_from_ego,
            ego_from_lidar=self._pose("calibrated_sensor", lidar["calibrated_sensor_token"], lidar["token"]),
            can_bus=can_bus_vector(sample["timestamp"], global_from_ego, can),
            command=Command.STRAIGHT,  # known once the whole clip is: `driven_frames`
            cameras=tuple(self._camera(key_frame(self.tables, sample["token"], name), name) for name in CAMERAS),
        )

    def _camera(self, row: Row, name: str) -> Camera:
        calibrated_token = row["calibrated_sensor_token"]
        calibrated = self.tables.calibrated_sensors[calibrated_token]
        lines = calibrated["camera_intrinsic"]
        flat = {"camera_intrinsic": [value for line in lines if isinstance(line, list) for value in line]}
        owner = f"calibrated_sensor {calibrated_token} of {name}"
        intrinsics = np.reshape(numbers_of(flat, {"camera_intrinsic": 9}, owner), (3, 3))
        if min(row["width"], row["height"]) <= 0:
            raise InputError(f"sample_data {row['token']} has the size {row['width']} x {row['height']}.")
        if self._check_images and not self.store.exists(row["filename"]):
            raise InputError(f"{self.store.path(row['filename'])} of sample_data {row['token']} does not exist.")
        return Camera(
            name=name,
            key=row["filename"],
            width=row["width"],
            height=row["height"],
            timestamp_us=row["timestamp"],
            intrinsics=intrinsics,
            ego_from_camera=self._pose("calibrated_sensor", calibrated_token, row["token"]),
            global_from_ego=self._pose("ego_pose", row["ego_pose_token"], row["token"]),
        )

    def _check_time(self, samples: list[Row]) -> None:
        """Time must grow from each sensor's key frame to the next, as it does along the samples."""
        for channel in (*CAMERAS, LIDAR):
            rows = [key_frame(self.tables, sample["token"], channel) for sample in samples]
            for before, after in pairwise(rows):
                if after["timestamp"] <= before["timestamp"]:
                    raise InputError(
                        f"Time goes backwards at sample_data {after['token']} of {channel}, which follows "
                        f"{before['token']}."
                    )

    def _pose(self, table: str, token: str, owner: str) -> Pose:
        rows = self.tables.ego_poses if table == "ego_pose" else self.tables.calibrated_sensors
        row = partner(rows, table, token, f"sample_data {owner}")
        x, y, z, qw, qx, qy, qz = numbers_of(row, {"translation": 3, "rotation": 4}, f"{table} {token}")
        check_unit((qw, qx, qy, qz), f"{table} {token}")
        return Pose((x, y, z), (qw, qx, qy, qz))
