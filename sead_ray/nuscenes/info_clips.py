"""VAD's infos of a scene → its clip and labels, the same as `NuScenesFolder` makes of the tables.

Infos hold poses, cameras, the CAN vector, boxes and futures. They hold no description, no log, no image size, no map
and no instance token: the first two come from scene.json and log.json below the data root, sizes from the images, the
map from its expansion, Acc and Yaw from the CAN files where they are there and from the poses elsewhere; objects are
followed by the futures that each box announces (`info_tracks`). Attributes ("vehicle.parked") they do not hold either.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from PIL import Image

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.can_bus import FOLDER as CAN_FOLDER
from sead_ray.nuscenes.can_bus import read_can_poses
from sead_ray.nuscenes.commands import behaviour_of
from sead_ray.nuscenes.conditions import is_night, is_rainy
from sead_ray.nuscenes.drive import clip_dynamics, driven_frames
from sead_ray.nuscenes.info_fields import text
from sead_ray.nuscenes.info_labels import scene_annotations
from sead_ray.nuscenes.infos import Sizes, camera_key, frame_of, with_own_drive
from sead_ray.nuscenes.infos_pickle import Info
from sead_ray.nuscenes.map_vectors import LocationMap, load_location_map, map_vectors
from sead_ray.nuscenes.tables import Table, partner, read_table
from sead_ray.records import CAMERAS, Clip, FrameLabels
from sead_ray.storage import Store


@dataclass(frozen=True)
class SceneFacts:
    """What scene.json and log.json say of a scene."""

    name: str
    description: str
    log_token: str
    location: str


class InfoReader:
    """Makes clips and labels of scenes; tables and maps are read at their first use and kept.

    Args:
        data: where images, maps, CAN files and the two tables lie.
        with_tables: read scene.json and log.json. Without them every scene counts as day and dry, is named by its
            token, and its log by the recording in its images' names.
    """

    def __init__(self, data: DataConfig, with_tables: bool = True) -> None:
        self.store = Store(data.root)
        self._data = data
        self._with_tables = with_tables
        self._maps: dict[str, LocationMap] = {}

    def facts(self, infos: Sequence[Info]) -> SceneFacts:
        """Of the scene that the infos belong to."""
        token, owner = infos[0]["scene_token"], f"info {infos[0]['token']}"
        location = text(infos[0], "map_location", owner)
        if not self._with_tables:
            recording = camera_key(infos[0], CAMERAS[0]).rsplit("/", 1)[-1].split("__")[0]
            return SceneFacts(token, "", recording, location)
        scene = partner(self._tables["scene"], "scene", token, owner)
        log = partner(self._tables["log"], "log", scene["log_token"], f"scene {token}")
        if log["location"] != location:
            raise InputError(
                f"{owner} lies in {location!r}, but log.json says {log['location']!r} of its scene's log "
                f"{scene['log_token']}."
            )
        return SceneFacts(scene["name"], scene["description"], scene["log_token"], location)

    def clip(self, infos: Sequence[Info], role: Literal["pool", "val"]) -> Clip:
        """The clip of a scene's infos, which are in the order of time."""
        facts = self.facts(infos)
        sizes = self._sizes(infos)
        with_can = self._data.can_bus == "auto"
        bare = [frame_of(info, sizes, with_can) for info in infos]
        start_us, stop_us = bare[0].timestamp_us, bare[-1].timestamp_us
        has_files = with_can and self.store.exists(CAN_FOLDER)
        can = read_can_poses(self.store, facts.name, start_us, stop_us) if has_files else None
        driven = driven_frames(bare, can=None, steering=None, location=facts.location)
        frames = tuple(with_own_drive(frame, info, with_can) for frame, info in zip(driven, infos))
        acc, yaw = clip_dynamics(frames, can)
        return Clip(
            clip_token=infos[0]["scene_token"],
            name=facts.name,
            log_token=facts.log_token,
            location=facts.location,
            split=role,
            description=facts.description,
            is_night=is_night(facts.description),
            is_rainy=is_rainy(facts.description),
            behaviour=behaviour_of([frame.command for frame in frames], self._data.overtake_frames),
            acc_std_mps2=acc,
            yaw_sum_rad=yaw,
            dynamics_source="pose" if can is None else "can",
            frames=frames,
        )

    def labels(self, infos: Sequence[Info], clip: Clip, table: Sequence[str]) -> list[FrameLabels]:
        """Labels of the clip's frames; `table` is the category table of the file (`category_table`)."""
        if clip.location not in self._maps:
            self._maps[clip.location] = load_location_map(self.store, clip.location, f"scene {clip.clip_token}")
        annotations = scene_annotations(infos, clip.frames, table)
        return [
            FrameLabels(
                frame_token=frame.token,
                clip_token=clip.clip_token,
                timestamp_us=frame.timestamp_us,
                annotations=boxes,
                map_vectors=map_vectors(self._maps[clip.location], frame.global_from_lidar),
            )
            for frame, boxes in zip(clip.frames, annotations)
        ]

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return {name: read_table(self.store, self._data.version, name) for name in ("scene", "log")}

    def _sizes(self, infos: Sequence[Info]) -> Sizes:
        """Pixels of each camera's images: of the scene's first; every other one must at least be there."""
        token_of = {camera_key(info, name): info["token"] for info in infos for name in CAMERAS}
        for key, n_bytes in self.store.file_sizes([*token_of]).items():
            if not n_bytes:
                what = "does not exist" if n_bytes is None else "is empty"
                raise InputError(f"{self.store.path(key)} of info {token_of[key]} {what}.")
        return {name: self._size(camera_key(infos[0], name)) for name in CAMERAS}

    def _size(self, key: str) -> tuple[int, int]:
        try:
            with Image.open(io.BytesIO(self.store.read_bytes(key)), formats=("JPEG",)) as image:
                return image.size
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"Image {self.store.path(key)} is not a whole JPEG ({error}).") from None
