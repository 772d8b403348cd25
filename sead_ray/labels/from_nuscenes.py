"""Annotations in nuScenes' tables: sample_annotation and instance, with category, attribute and sample where they come
along; categories and attributes are else those of the data set, which annotators label by."""

from __future__ import annotations

from typing import Any

from sead_ray.errors import InputError
from sead_ray.labels.delivery import DeliveredBox, Delivery
from sead_ray.nuscenes.row_types import check_rows, check_unique
from sead_ray.nuscenes.tables import Row, Table, partner
from sead_ray.storage import Store

ANNOTATIONS = "sample_annotation.json"
_COLUMNS = {
    "sample_annotation": (
        *("token", "sample_token", "instance_token", "translation", "size", "rotation"),
        *("num_lidar_pts", "num_radar_pts"),
    ),
    "instance": ("token", "category_token"),
    "category": ("token", "name"),
    "attribute": ("token", "name"),
    "sample": ("token", "timestamp"),
}
_OPTIONAL: dict[str, Row] = {"sample_annotation": {"attribute_tokens": [], "prev": "", "next": ""}}


def read_nuscenes(source: Store, data: Store, version: str) -> Delivery:
    """The delivery in the folder `source`, or in its folder `version`.

    Args:
        data: the data root, for the tables that need not come along.

    Raises:
        InputError: a table is missing, is no list of such rows, or refers to a row that is not there; names it.
    """
    folder = source if source.exists(ANNOTATIONS) else source.below(version)
    own = data.below(version)
    rows = _table(folder, "sample_annotation")
    instances = _table(folder, "instance")
    categories = _table(folder if folder.exists("category.json") else own, "category")
    attributes = _table(folder if folder.exists("attribute.json") else own, "attribute", required=False)
    samples = _table(folder, "sample", required=False)
    boxes = [_box(row, rows, instances, categories, attributes) for row in rows.values()]
    return Delivery(boxes, {token: row["timestamp"] for token, row in samples.items()})


def _table(folder: Store, name: str, required: bool = True) -> Table:
    key = f"{name}.json"
    if not required and not folder.exists(key):
        return {}
    rows = folder.read_json(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{folder.path(key)} is not a list of rows.")
    found = [_columns(row, name, folder.path(key)) for row in rows]
    check_rows(found, folder.path(key))
    check_unique(found, folder.path(key))
    return {row["token"]: row for row in found}


def _columns(row: dict[str, Any], name: str, path: str) -> Row:
    if missing := [column for column in _COLUMNS[name] if column not in row]:
        raise InputError(f"{path}: row {row.get('token')!r} has no {missing[0]}.")
    found = {column: row[column] for column in _COLUMNS[name]}
    return {**found, **{key: row.get(key, value) for key, value in _OPTIONAL.get(name, {}).items()}}


def _box(row: Row, rows: Table, instances: Table, categories: Table, attributes: Table) -> DeliveredBox:
    owner = f"sample_annotation {row['token']}"
    instance = partner(instances, "instance", row["instance_token"], owner)
    category = partner(categories, "category", instance["category_token"], f"instance {row['instance_token']}")
    names = [partner(attributes, "attribute", token, owner)["name"] for token in row["attribute_tokens"]]
    linked = [(way, rows[row[way]]) for way in ("prev", "next") if row[way] in rows]
    return DeliveredBox(
        row=owner,
        frame_token=row["sample_token"],
        instance=row["instance_token"],
        category=category["name"],
        translation_m=tuple(row["translation"]),
        size_wlh_m=tuple(row["size"]),
        rotation_wxyz=tuple(row["rotation"]),
        n_lidar_points=row["num_lidar_pts"],
        n_radar_points=row["num_radar_pts"],
        attribute=names[0] if names else "",
        links=tuple((way, other["sample_token"], other["instance_token"]) for way, other in linked),
    )
