"""Labels that annotators deliver: read, checked as a whole, compared with what is there, merged in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.labels.delivery import Asked, Delivery, Fault
from sead_ray.labels.from_cvat import read_cvat
from sead_ray.labels.from_nuscenes import ANNOTATIONS, read_nuscenes
from sead_ray.labels.merge import LabelDiff, MapReader, PointReader, compare, to_labels
from sead_ray.labels.point_cloud import Points, read_sweep, to_global
from sead_ray.labels.validate import find_faults
from sead_ray.nuscenes.lidar import lidar_keys
from sead_ray.nuscenes.map_vectors import LocationMap, load_location_map, map_vectors
from sead_ray.records import Clip, Frame, FrameLabels, MapVector
from sead_ray.schemas import LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.label_store import delivery_store
from sead_ray.stages.labels_out import requested_tasks
from sead_ray.stages.take_up import intake_tokens
from sead_ray.storage import Store

Form = Literal["auto", "nuscenes", "cvat"]
FAULTS_SHOWN = 20


@dataclass(frozen=True)
class CheckedDelivery:
    """A delivery in which nothing is wrong. `labels`: the round's file after the merge, by frame token."""

    diff: LabelDiff
    labels: dict[str, FrameLabels]


def check_delivery(
    run: Store, config: RunConfig, number: int, source: str, form: Form = "auto", complete: bool = False
) -> CheckedDelivery:
    """Reads and checks a delivery for round `number`; changes nothing.

    Args:
        source: a folder with nuScenes' tables, or CVAT's export (a zip, a folder of them, or one that is unpacked).
        complete: requested frames of delivered clips that have no box are empty, not missing.

    Raises:
        InputError: the round cannot take labels, or a row is wrong: the first is named, and all in `listing`.
    """
    _require_open(run, config, number)
    tasks = requested_tasks(run, config, number)
    if config.labels.mode == "oracle":  # which knows the data set's own clips, not those that the service took in
        came = set(intake_tokens(run).values())
        tasks = [task for task in tasks if task.clip.clip_token in came]
    asked = Asked.of(tasks)
    delivery = _read(Store(config.data.root), config.data.version, source, form, asked)
    ours, elsewhere = _delivered(run, config, number, asked)
    touched = {box.frame_token for box in delivery.boxes}
    faults = find_faults(delivery, asked, {token: item for token, item in ours.items() if token not in touched})
    faults += [
        Fault(box.row, f"is of frame {box.frame_token}, whose labels are in {elsewhere[box.frame_token]} already.")
        for box in delivery.boxes
        if box.frame_token in elsewhere
    ]
    if faults:
        raise _refusal(faults)
    new = to_labels(delivery, asked, complete, _map_reader(config), _point_reader(config, asked))
    diff = compare(delivery, asked, new, ours)
    missing = tuple(token for token in diff.missing if token not in elsewhere)
    return CheckedDelivery(replace(diff, missing=missing), {**ours, **new})


def merge_delivery(run: Store, config: RunConfig, number: int, checked: CheckedDelivery) -> str:
    """Writes the round's labels in one step; returns the file. The caller holds the run folder."""
    store, name = delivery_store(run, config), _file_of(number)
    store.write_table(name, (item.to_row() for item in checked.labels.values()), LABEL_SCHEMA, group=64)
    return store.path(name)


def _file_of(number: int) -> str:
    return f"round_{number:02d}.parquet"


def _require_open(run: Store, config: RunConfig, number: int) -> None:
    if config.labels.mode == "oracle" and not intake_tokens(run):
        raise InputError("labels.mode is oracle, which takes the data set's own labels: nothing waits for a delivery.")
    if run.is_published(layout.model(number)):
        raise InputError(
            f"Round {number}'s model was trained already: its labels are what it was trained on, and stay."
        )


def _read(data: Store, version: str, source: str, form: Form, asked: Asked) -> Delivery:
    if source.endswith((".zip", ".json")):
        folder, _, name = source.rpartition("/")
        return read_cvat(Store(folder or "."), [name], asked)
    store = Store(source)
    tables = store.exists(ANNOTATIONS) or store.exists(f"{version}/{ANNOTATIONS}")
    if form == "nuscenes" or (form == "auto" and tables):
        return read_nuscenes(store, data, version)
    names = store.list(suffix=".zip") or [f"annotations/{name}" for name in store.list("annotations", suffix=".json")]
    if not names:
        raise InputError(f"{store.root} holds neither {ANNOTATIONS} of nuScenes nor an export of CVAT (*.zip).")
    return read_cvat(store, names, asked)


def _delivered(
    run: Store, config: RunConfig, number: int, asked: Asked
) -> tuple[dict[str, FrameLabels], dict[str, str]]:
    """Labels of the asked frames in the round's own file, and the other files in which some lie."""
    store = delivery_store(run, config)
    ours: dict[str, FrameLabels] = {}
    elsewhere: dict[str, str] = {}
    wanted = pc.field("frame_token").isin(sorted(asked.frames))
    for name in store.list(suffix=".parquet"):
        for row in store.iter_rows(name, LABEL_SCHEMA, where=wanted):
            if name == _file_of(number):
                ours[row["frame_token"]] = FrameLabels.from_row(row)
            else:
                elsewhere[row["frame_token"]] = store.path(name)
    return ours, elsewhere


def _refusal(faults: list[Fault]) -> InputError:
    more = f" {len(faults)} rows are wrong." if len(faults) > 1 else ""
    error = InputError(f"{faults[0]}{more} Nothing was changed.")
    listing = [str(fault) for fault in faults[:FAULTS_SHOWN]] if len(faults) > 1 else []
    if len(faults) > FAULTS_SHOWN:
        listing.append(f"… and {len(faults) - FAULTS_SHOWN} more.")
    error.listing = tuple(listing)
    return error


def _map_reader(config: RunConfig) -> MapReader:
    """Map vectors as the oracle's: of the map expansion, or of py123d's maps, empty where a log has none."""
    find: Callable[[Clip], LocationMap | None] = _log_map(config) if config.data.format == "py123d" else _town(config)
    kept: dict[str, LocationMap | None] = {}

    def read(clip: Clip, frame: Frame) -> tuple[MapVector, ...]:
        key = clip.log_token if config.data.format == "py123d" else clip.location
        if key not in kept:
            kept[key] = find(clip)
        found = kept[key]
        return map_vectors(found, frame.global_from_lidar) if found else ()

    return read


def _town(config: RunConfig) -> Callable[[Clip], LocationMap]:
    return lambda clip: load_location_map(Store(config.data.root), clip.location, f"log {clip.log_token}")


def _log_map(config: RunConfig) -> Callable[[Clip], LocationMap | None]:
    from sead_ray.py123d.folder import Py123dFolder  # late: only such data need it
    from sead_ray.py123d.maps import load_map, map_key

    logs = {log.name: log for log in Py123dFolder(config.data).pool_logs()}

    def find(clip: Clip) -> LocationMap | None:
        log = logs[clip.log_token]
        key = map_key(log)
        return load_map(log.store, key) if key else None

    return find


def _point_reader(config: RunConfig, asked: Asked) -> PointReader:
    keys: dict[str, str] = {}

    def read(frame: Frame) -> Points:
        if not keys:
            keys.update(lidar_keys(Store(config.data.root), config.data.version, set(asked.frames)))
        if frame.token not in keys:
            raise InputError(f"Frame {frame.token} has no lidar sweep, in which the returns of its boxes are counted.")
        return to_global(read_sweep(Store(config.data.root), keys[frame.token]), frame)[:, :3].astype(np.float64)

    return read
