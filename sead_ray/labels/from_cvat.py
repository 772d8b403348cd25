"""Annotations as CVAT exports them of 3D tasks: the format "Datumaro 3D 1.0".

A zip (or its folder) with `annotations/<subset>.json`: labels by number, and for each frame cuboids of position,
rotation (Euler angles) and scale along their own axes, x forward. Shapes of a track carry `track_id`.
"""

from __future__ import annotations

import io
import json
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from sead_ray.errors import InputError
from sead_ray.geometry import quaternion_product
from sead_ray.labels.delivery import Asked, DeliveredBox, Delivery, Fault
from sead_ray.labels.to_cvat import ATTRIBUTE, attribute_of
from sead_ray.storage import Store

_FOLDER = "annotations"


def read_cvat(source: Store, names: list[str], asked: Asked) -> Delivery:
    """The delivery in files of the folder `source`.

    Args:
        names: zips, or JSON files of an unpacked one.

    Raises:
        InputError: a file is no such export; names it.
    """
    reader = _Reader(asked)
    for path, content in _documents(source, names):
        try:
            reader.read(path, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} is not an annotation file of CVAT's Datumaro 3D export ({error!r}).") from None
    return Delivery(reader.boxes, faults=reader.faults)


def _documents(source: Store, names: list[str]) -> Iterator[tuple[str, Any]]:
    """(path to show, parsed JSON) of every annotation file."""
    for name in names:
        if not name.endswith(".zip"):
            yield source.path(name), source.read_json(name)
            continue
        try:
            with zipfile.ZipFile(io.BytesIO(source.read_bytes(name))) as archive:
                inside = [
                    member
                    for member in archive.namelist()
                    if member.endswith(".json") and posixpath.basename(posixpath.dirname(member)) == _FOLDER
                ]
                if not inside:
                    raise InputError(
                        f"{source.path(name)} holds no {_FOLDER}/*.json: export the task from CVAT as Datumaro 3D 1.0."
                    )
                for member in inside:
                    yield f"{source.path(name)}/{member}", json.loads(archive.read(member))
        except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{source.path(name)} is not a readable export of CVAT ({error}).") from None


class _Reader:
    """Collects boxes and faults of documents."""

    def __init__(self, asked: Asked) -> None:
        self.boxes: list[DeliveredBox] = []
        self.faults: list[Fault] = []
        self._asked = asked
        self._tokens = {item.name: token for token, (_, item) in asked.frames.items()}

    def read(self, path: str, content: dict[str, Any]) -> None:
        labels = [row["name"] for row in content["categories"]["label"]["labels"]]
        for item in content["items"]:
            token = self._tokens.get(posixpath.basename(item["id"]))
            for number, shape in enumerate(item["annotations"]):
                row = f"{path}: annotation {shape.get('id', number)} of {item['id']}"
                fault = _shape_fault(shape, token, labels)
                if fault or token is None:
                    self.faults.append(Fault(row, fault))
                else:
                    self.boxes.append(self._box(shape, row, labels[shape["label_id"]], token, number))

    def _box(self, shape: dict[str, Any], row: str, category: str, token: str, number: int) -> DeliveredBox:
        task, _ = self._asked.frames[token]
        attributes = shape.get("attributes") or {}
        track = attributes.get("track_id")
        length, width, height = _three(shape["scale"])
        position = np.array(_three(shape["position"])) + task.origin_m
        return DeliveredBox(
            row=row,
            frame_token=token,
            instance=f"{task.clip.clip_token}/{f'track-{track}' if track is not None else f'{token}-{number}'}",
            category=category,
            translation_m=tuple(position.tolist()),
            size_wlh_m=(width, length, height),
            rotation_wxyz=_quaternion(_three(shape["rotation"])),
            attribute=attribute_of(attributes.get(ATTRIBUTE)),
            is_tracked=track is not None,
        )


def _shape_fault(shape: dict[str, Any], token: str | None, labels: list[str]) -> str:
    if token is None:
        return "is of a frame that was not asked for."
    if shape.get("type") != "cuboid_3d":
        return f"is a {shape.get('type')}, not a cuboid."
    label = shape.get("label_id")
    if not isinstance(label, int) or not 0 <= label < len(labels):
        return f"has the label number {label!r}, of which the file has no name."
    return ""


def _three(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(value) if isinstance(value, (int, float)) else np.nan for value in values)
    return x, y, z


def _quaternion(euler_rad: tuple[float, float, float]) -> tuple[float, ...]:
    """Of three.js' Euler angles in order XYZ, which CVAT turns its cuboids by: R = Rx Ry Rz."""
    about = [np.r_[np.cos(angle / 2), np.sin(angle / 2) * axis] for angle, axis in zip(euler_rad, np.eye(3))]
    turned = quaternion_product(quaternion_product(about[0], about[1]), about[2])
    return tuple(turned.tolist())
