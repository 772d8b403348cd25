"""Splits: official names, splits.json, lists, files of names, and no val at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import parse
from sead_ray.config import DataConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder

TOKENS = ["token-scene-0001", "token-scene-0003"]


def folder(root: Path, **settings: Any) -> NuScenesFolder:
    return NuScenesFolder(DataConfig(root=str(root), version="v1.0-mini", **settings))


def test_lists_and_files_of_names(pristine_folder: Path, tmp_path: Path) -> None:
    names = ["scene-0003", "scene-0001"]
    (tmp_path / "pool.json").write_text(json.dumps(names))
    (tmp_path / "pool.txt").write_text("scene-0003\n\n scene-0001 \n")
    for split in (names, str(tmp_path / "pool.json"), str(tmp_path / "pool.txt")):
        assert folder(pristine_folder, pool_split=split).pool_scenes() == TOKENS


def test_official_names_where_there_is_no_splits_json(damaged_copy: Path) -> None:
    (damaged_copy / "splits.json").unlink()
    found = folder(damaged_copy)
    assert "token-scene-0001" in found.pool_scenes()  # official train
    assert found.val_scenes() == ["token-scene-0003"]  # official val


def test_splits_json_in_the_version_folder(damaged_copy: Path) -> None:
    (damaged_copy / "splits.json").rename(damaged_copy / "v1.0-mini" / "splits.json")
    assert folder(damaged_copy).val_scenes() == ["token-scene-0002"]


def test_no_val(pristine_folder: Path) -> None:
    found = folder(pristine_folder, val_split=None)
    assert found.val_scenes() == []
    found.check_logs_disjoint()


@pytest.mark.parametrize(
    ("split", "named"),
    [
        (["scene-0001", "scene-9999"], "scene-9999"),
        (["scene-0001", "scene-0001"], "scene-0001 twice"),
        (["scene-0002x"], "scene-0002x"),
        ("nowhere.txt", "nowhere.txt does not exist"),
    ],
)
def test_bad_lists_are_named(pristine_folder: Path, split: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        folder(pristine_folder, pool_split=split).pool_scenes()


def test_bad_files_are_named(pristine_folder: Path, damaged_copy: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    for text in ("{}", "[1]", "[", '"scene-0001"'):
        path.write_text(text)
        with pytest.raises(InputError, match=r"pool\.json"):
            folder(pristine_folder, pool_split=str(path)).pool_scenes()
    (damaged_copy / "splits.json").write_text(json.dumps({"train": "scene-0001", "val": ["scene-0002"]}))
    with pytest.raises(InputError, match=r"'train'.*not a list"):
        folder(damaged_copy).pool_scenes()


def test_shared_logs_name_the_scenes_to_leave_out(pristine_folder: Path) -> None:
    mixed = folder(pristine_folder, pool_split=["scene-0001", "scene-0002"], val_split=["scene-0003"])
    with pytest.raises(InputError, match=r"log-a \(val's scene-0003\).*1 scene\(s\).*\(scene-0001\)"):
        mixed.check_logs_disjoint()


def test_options_of_the_command_line() -> None:
    config, _ = parse("", ["--data.pool_split", '["a", "b"]', "--data.val_split", "null"])
    assert (config.data.pool_split, config.data.val_split) == (["a", "b"], None)
    config, _ = parse("", ["--data.pool_split", "lists/pool.txt", "--data.val_split=mini_val"])
    assert (config.data.pool_split, config.data.val_split) == ("lists/pool.txt", "mini_val")


def test_the_test_version_has_no_labels(damaged_copy: Path) -> None:
    (damaged_copy / "v1.0-mini").rename(damaged_copy / "v1.0-test")
    found = NuScenesFolder(DataConfig(root=str(damaged_copy), version="v1.0-test", val_split=None))
    assert len(found.clip(TOKENS[0], "pool").frames) == 8
    with pytest.raises(InputError, match=r"labels\.mode=wait"):
        found.labels(TOKENS[0])
