"""A scene's part of the tables holds all that its clip and labels need, and nothing of other scenes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes import scene_index
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.scene_index import DRIVE_TABLES, LABEL_TABLES, SceneIndex, SceneTables, write_index
from sead_ray.storage import Store

Edit = Callable[[Path, str, Callable[[list[dict[str, Any]]], Any]], None]


def indexes(data: DataConfig, scenes: list[str], target: Store) -> list[list[str]]:
    source = Store(data.root)
    return [
        write_index(source, data.version, scenes, tables, target, key, lambda _: None)
        for tables, key in ((DRIVE_TABLES, "drive.parquet"), (LABEL_TABLES, "labels.parquet"))
    ]


@pytest.mark.parametrize("spool", [1, 10**9])
def test_clips_and_labels_are_those_of_the_whole_folder(
    data_config: DataConfig, folder: NuScenesFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: int
) -> None:
    monkeypatch.setattr(scene_index, "SPOOL_CHARACTERS", spool)  # 1: every row goes through the scratch file
    target = Store(str(tmp_path))
    scenes = folder.scenes("train")[::-1]
    indexes(data_config, scenes, target)
    drive, labels = SceneIndex(target, "drive.parquet"), SceneIndex(target, "labels.parquet")
    for position, token in enumerate(scenes):
        rows = drive.rows(position) | labels.rows(position)
        assert [len(rows[name]) for name in ("scene", "log", "sample", "sample_data")] == [1, 1, 8, 56]
        tables = SceneTables(Store(data_config.root), data_config.version, rows, DRIVE_TABLES + LABEL_TABLES)
        part = NuScenesFolder(data_config, tables, {}, check_images=False)
        assert part.clip(token, "pool").to_row() == folder.clip(token, "pool").to_row()
        assert [item.to_row() for item in part.labels(token)] == [item.to_row() for item in folder.labels(token)]


def test_only_the_scene_whose_rows_changed_has_another_digest(
    data_config: DataConfig, folder: NuScenesFolder, damaged_copy: Path, edit_table: Edit, tmp_path: Path
) -> None:
    scenes = folder.scenes("train")
    before = indexes(data_config, scenes, Store(str(tmp_path / "a")))
    edit_table(damaged_copy, "sample", lambda rows: rows[0].update(extra=1))
    changed = DataConfig(root=str(damaged_copy), version=data_config.version)
    after = indexes(changed, scenes, Store(str(tmp_path / "b")))
    differ = [ours != theirs for ours, theirs in zip(before[0], after[0])]
    assert sum(differ) == 1
    assert before[1] == after[1]


@pytest.mark.parametrize(
    ("table", "column", "named"),
    [
        ("sample_data", "sample_token", "sample_data data-scene-0001-0-CAM_FRONT"),
        ("sample_annotation", "sample_token", "sample_annotation instance-0-0-0"),
        ("calibrated_sensor", "sensor_token", "calibrated_sensor cal-CAM_FRONT"),
    ],
)
def test_a_row_without_its_partner_is_named(
    damaged_copy: Path, edit_table: Edit, tmp_path: Path, table: str, column: str, named: str
) -> None:
    edit_table(damaged_copy, table, lambda rows: rows[0].update({column: "nowhere"}))
    data = DataConfig(root=str(damaged_copy), version="v1.0-mini")
    with pytest.raises(InputError, match="nowhere") as caught:
        indexes(data, ["token-scene-0001"], Store(str(tmp_path / "index")))
    assert named in str(caught.value)


def test_a_row_without_a_column_is_refused(damaged_copy: Path, edit_table: Edit, tmp_path: Path) -> None:
    edit_table(damaged_copy, "ego_pose", lambda rows: rows[3].pop("token"))
    data = DataConfig(root=str(damaged_copy), version="v1.0-mini")
    with pytest.raises(InputError, match=r"ego_pose\.json has a row without 'token'"):
        indexes(data, ["token-scene-0001"], Store(str(tmp_path / "index")))
