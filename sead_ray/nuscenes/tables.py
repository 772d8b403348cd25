"""The nuScenes v1.0 JSON tables that clips need, read row by row; rows nobody asked for are dropped while parsing.

The devkit's `NuScenes` class keeps every table in memory, annotations included; clips must not even open those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from sead_ray.errors import InputError
from sead_ray.nuscenes.row_types import check_rows, check_unique
from sead_ray.records import CAMERAS

Row = dict[str, Any]
Table = dict[str, Row]  # token -> row
T = TypeVar("T")

LIDAR = "LIDAR_TOP"
CHANNELS = (*CAMERAS, LIDAR)

# What is kept of each table's rows; a row that lacks one of them is refused.
COLUMNS = {
    "scene": ("token", "name", "log_token", "description", "first_sample_token", "nbr_samples"),
    "sample": ("token", "timestamp", "next"),
    "log": ("token", "location"),
    "sensor": ("token", "channel"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "ego_pose": ("token", "translation", "rotation"),
    "sample_data": (
        *("token", "sample_token", "ego_pose_token", "calibrated_sensor_token"),
        *("timestamp", "filename", "width", "height"),
    ),
    "category": ("token", "name"),
    "attribute": ("token", "name"),
    "instance": ("token", "category_token"),
    "sample_annotation": (
        *("token", "sample_token", "instance_token", "translation", "size", "rotation"),
        *("num_lidar_pts", "num_radar_pts"),
    ),
}
# What a row may lack, and the value that stands for it then.
OPTIONAL_COLUMNS: dict[str, Row] = {"sample_annotation": {"attribute_tokens": []}}


class TableSource(Protocol):
    """Where table files are read from: a folder (`Store`), or one scene's part of its tables (`SceneTables`)."""

    def exists(self, key: str) -> bool: ...
    def path(self, key: str = "") -> str: ...
    def read_bytes(self, key: str) -> bytes: ...


@dataclass(frozen=True)
class DriveTables:
    """What was recorded, without what was annotated.

    Attributes:
        scenes, samples, logs, calibrated_sensors, ego_poses: token -> row.
        key_frames: (sample token, channel) -> the key frame's sample_data row, for six cameras and LIDAR_TOP.
    """

    scenes: Table
    samples: Table
    logs: Table
    calibrated_sensors: Table
    ego_poses: Table
    key_frames: dict[tuple[str, str], Row]


def table_key(store: TableSource, version: str, name: str) -> str:
    """Path of a table below the data root; `InputError` where there is none."""
    path = f"{version}/{name}.json"
    if not store.exists(path):
        if not store.exists(version):
            raise InputError(f"{store.path(version)} does not exist: data.root and data.version must name a folder.")
        raise InputError(f"The table {store.path(path)} is missing.")
    return path


def read_rows(store: TableSource, version: str, name: str, keep: Callable[[Row], bool] | None = None) -> list[Row]:
    """Rows of `<version>/<name>.json` that `keep` admits, with the columns of `COLUMNS`.

    Raises:
        InputError: names the file that is missing, no JSON, or has a row without a column.
    """
    path = table_key(store, version, name)
    columns, optional = COLUMNS[name], OPTIONAL_COLUMNS.get(name, {})

    def parse_row(row: Row) -> Row | None:
        if keep is not None and not keep(row):
            return None
        found = {column: row[column] for column in columns}
        found.update((column, row.get(column, default)) for column, default in optional.items())
        return found

    try:
        rows = json.loads(store.read_bytes(path), object_hook=parse_row)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The table {store.path(path)} is not valid JSON ({error}).") from None
    except KeyError as error:
        raise InputError(f"The table {store.path(path)} has a row without {error}.") from None
    except TypeError as error:  # `keep` looks up what is no token
        raise InputError(f"The table {store.path(path)} has a row of another kind ({error}).") from None
    if not isinstance(rows, list) or not all(row is None or isinstance(row, dict) for row in rows):
        raise InputError(f"The table {store.path(path)} is not a list of rows.")
    kept = [row for row in rows if row is not None]
    check_rows(kept, store.path(path))
    return kept


def read_table(store: TableSource, version: str, name: str, keep: Callable[[Row], bool] | None = None) -> Table:
    """The same, by token."""
    rows = read_rows(store, version, name, keep)
    check_unique(rows, store.path(f"{version}/{name}.json"))
    return {row["token"]: row for row in rows}


def numbers_of(row: Row, columns: dict[str, int], owner: str) -> list[float]:
    """The row's vectors, one after the other; `columns` gives their lengths. `InputError` where one is no such
    vector of finite numbers."""
    values: list[float] = []
    for column, length in columns.items():
        try:
            vector = np.asarray(row[column], np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if vector.shape != (length,) or not np.isfinite(vector).all():
            raise InputError(f"{owner} has a {column} that is not {length} finite numbers.")
        values += vector.tolist()
    return values


def check_unit(quaternion: Sequence[float], owner: str) -> None:
    if not 0.99 < sum(value * value for value in quaternion) < 1.01:
        raise InputError(f"{owner} has a rotation that is not a unit quaternion.")


def partner(table: Mapping[str, T], name: str, token: str, owner: str) -> T:
    """The row that a foreign key names; `owner` says who refers to it ("sample 12ab…")."""
    try:
        return table[token]
    except (KeyError, TypeError):  # a list is no token
        raise InputError(f"{name}.json has no row {token!r}, to which {owner} refers.") from None


def read_drive_tables(store: TableSource, version: str) -> DriveTables:
    """Reads the seven tables of a recording; of sample_data and ego_pose only the key frames of `CHANNELS`."""
    sensors = read_table(store, version, "sensor")
    calibrated = read_table(store, version, "calibrated_sensor")
    channel_of = {
        token: partner(sensors, "sensor", row["sensor_token"], f"calibrated_sensor {token}")["channel"]
        for token, row in calibrated.items()
    }
    samples = read_table(store, version, "sample")
    # A row whose calibration is unknown is kept, so that it is refused by name below.
    key_frames: dict[tuple[str, str], Row] = {}
    for row in read_rows(
        store,
        version,
        "sample_data",
        lambda row: row["is_key_frame"] and channel_of.get(row["calibrated_sensor_token"], LIDAR) in CHANNELS,
    ):
        owner = f"sample_data {row['token']}"
        partner(calibrated, "calibrated_sensor", row["calibrated_sensor_token"], owner)
        partner(samples, "sample", row["sample_token"], owner)
        place = row["sample_token"], channel_of[row["calibrated_sensor_token"]]
        if place in key_frames:
            raise InputError(
                f"Sample {place[0]} has two key frames of {place[1]}: {key_frames[place]['token']}, {owner}."
            )
        key_frames[place] = row
    wanted = {row["ego_pose_token"] for row in key_frames.values()}
    return DriveTables(
        scenes=read_table(store, version, "scene"),
        samples=samples,
        logs=read_table(store, version, "log"),
        calibrated_sensors=calibrated,
        ego_poses=read_table(store, version, "ego_pose", lambda row: row["token"] in wanted),
        key_frames=key_frames,
    )


def key_frame(tables: DriveTables, sample_token: str, channel: str) -> Row:
    try:
        return tables.key_frames[sample_token, channel]
    except KeyError:
        raise InputError(f"Sample {sample_token} has no key frame of {channel} in sample_data.json.") from None


def scene_samples(tables: DriveTables, scene: Row) -> list[Row]:
    """The scene's samples along their `next` links; time must grow along them."""
    token, owner = scene["first_sample_token"], f"scene {scene['token']}"
    samples: list[Row] = []
    while token:
        sample = partner(tables.samples, "sample", token, owner)
        if samples and sample["timestamp"] <= samples[-1]["timestamp"]:
            raise InputError(f"Time goes backwards at sample {token}, which follows {samples[-1]['token']}.")
        samples.append(sample)
        token, owner = sample["next"], f"sample {token}"
    if not samples:
        raise InputError(f"Scene {scene['token']} has no samples.")
    return samples
