"""Attributes of annotations: nuScenes' detection metric needs them, nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sead_ray.config import DataConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from tests.nuscenes.conftest import VERSION, write_json

SCENE = "token-scene-0001"
EditTable = Callable[[Path, str, Callable[[list[dict[str, Any]]], Any]], None]


def attributes(root: Path) -> list[str]:
    frames = NuScenesFolder(DataConfig(root=str(root), version=VERSION)).labels(SCENE)
    return [annotation.attribute for frame in frames for annotation in frame.annotations]


def test_a_folder_without_attributes_is_read(pristine_folder: Path) -> None:
    assert set(attributes(pristine_folder)) == {""}


def test_an_annotation_has_the_name_of_its_attribute(damaged_copy: Path, edit_table: EditTable) -> None:
    write_json(damaged_copy / VERSION / "attribute.json", [{"token": "a1", "name": "vehicle.parked"}])

    def park(rows: list[dict[str, Any]]) -> None:
        rows[0]["attribute_tokens"] = ["a1"]
        rows[1]["attribute_tokens"] = []

    edit_table(damaged_copy, "sample_annotation", park)
    found = attributes(damaged_copy)
    assert found.count("vehicle.parked") == 1
    assert set(found) == {"vehicle.parked", ""}
