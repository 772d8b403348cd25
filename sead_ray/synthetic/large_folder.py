"""A folder of nuScenes' size out of a small generated world: tables multiplied, images and CAN files shared.

For measuring and testing preparation at full size. A copy of a scene has tokens, a log and calibrations of its own;
its rows name the original's images. Sweeps fill `sample_data` and `ego_pose`, as nine tenths of nuScenes' rows do.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from sead_ray.config import WorldConfig
from sead_ray.synthetic.tables import VERSION
from sead_ray.synthetic.world import generate_world

Row = dict[str, Any]

BASE_SCENES = 4  # of the small world
VAL_EVERY = 6  # of six scenes one is val, about as in nuScenes
_SHARED = ("category", "attribute", "visibility", "sensor", "map")
_TOKENS = {
    "scene": ("token", "log_token", "first_sample_token", "last_sample_token"),
    "log": ("token",),
    "calibrated_sensor": ("token",),
    "sample": ("token", "prev", "next", "scene_token"),
    "sample_data": ("token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "prev", "next"),
    "ego_pose": ("token",),
    "sample_annotation": ("token", "sample_token", "instance_token", "prev", "next"),
    "instance": ("token", "first_annotation_token", "last_annotation_token"),
}


def write_large_folder(root: str, scenes: int, frames: int, sweeps_per_frame: int, annotations_per_frame: int) -> None:
    """Writes the folder; one that is complete (splits.json, written last) is left alone.

    Args:
        sweeps_per_frame: rows of `sample_data` and `ego_pose` beside each frame's key frames (nuScenes: about 65).
        annotations_per_frame: at least so many, by repeating those of the small world (nuScenes: about 34).
    """
    folder = Path(root)
    if (folder / "splits.json").exists():
        return
    base = folder / "base"
    generate_world(
        WorldConfig(scenes=BASE_SCENES, frames=frames, image_width=64, image_height=36, val_share=0.25), str(base)
    )
    for name in ("samples", "maps"):
        if not (folder / name).exists():
            (folder / name).symlink_to(f"base/{name}")
    originals = _scenes_of(base)
    names = [f"scene-{number + 1:04d}" for number in range(scenes)]
    _write_tables(folder / VERSION, base / VERSION, originals, names, (sweeps_per_frame, annotations_per_frame))
    _share_can_files(folder, base, originals, names)
    splits = {"train": [], "val": []}
    for number, name in enumerate(names):
        splits["val" if number % VAL_EVERY == VAL_EVERY - 1 else "train"].append(name)
    (folder / "splits.json").write_text(json.dumps(splits))


def _scenes_of(base: Path) -> list[dict[str, list[Row]]]:
    """The small world's rows, by scene and table."""
    tables = {name: json.loads((base / VERSION / f"{name}.json").read_text()) for name in _TOKENS}
    scene_of = {row["token"]: row["scene_token"] for row in tables["sample"]}
    by_scene: dict[str, dict[str, list[Row]]] = defaultdict(lambda: {name: [] for name in _TOKENS})
    for name in ("sample", "sample_data", "sample_annotation"):
        for row in tables[name]:
            by_scene[scene_of[row.get("sample_token", row["token"])]][name].append(row)
    for scene in tables["scene"]:
        rows = by_scene[scene["token"]]
        wanted = {row[key] for table in rows.values() for row in table for key in row if key.endswith("_token")}
        rows["scene"].append(scene)
        wanted.add(scene["log_token"])
        for name in ("log", "calibrated_sensor", "ego_pose", "instance"):
            rows[name] = [row for row in tables[name] if row["token"] in wanted]
    return list(by_scene.values())


def _write_tables(
    target: Path, base: Path, originals: list[dict[str, list[Row]]], names: list[str], density: tuple[int, int]
) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        (target / f"{name}.json").write_text((base / f"{name}.json").read_text())
    for table in _TOKENS:
        with open(target / f"{table}.json", "w") as file:
            file.write("[\n")
            for number, name in enumerate(names):
                original = originals[number % len(originals)]
                _write_rows(file, _copied(table, original, number, name, *density), first=number == 0)
            file.write("\n]")


def _write_rows(file: TextIO, rows: Iterator[Row], first: bool) -> None:
    for row in rows:
        file.write(("" if first else ",\n") + json.dumps(row, indent=0))  # nuScenes' own layout
        first = False


def _copied(
    table: str, original: dict[str, list[Row]], number: int, name: str, sweeps: int, least: int
) -> Iterator[Row]:
    n_frames = len(original["sample"])
    repeats = -(-least * n_frames // max(1, len(original["sample_annotation"])))
    for row in original[table]:
        copy = _renamed(row, table, f"{number:04x}")
        if table == "scene":
            copy["name"] = name
        yield copy
        if table in ("sample_annotation", "instance"):
            for repeat in range(1, repeats):
                yield _renamed(copy, table, f"{repeat:02x}", start=4, keep=("sample_token",))
    if table in ("sample_data", "ego_pose"):
        yield from _sweeps(table, original, f"{number:04x}", sweeps * n_frames)


def _sweeps(table: str, original: dict[str, list[Row]], mark: str, count: int) -> Iterator[Row]:
    poses = original["ego_pose"]
    for number in range(count):
        data = original["sample_data"][number % len(original["sample_data"])]
        token = f"{mark}{number:028x}"
        if table == "ego_pose":
            yield {**poses[number % len(poses)], "token": token}
            continue
        row = _renamed(data, table, mark)
        row |= {"token": token, "ego_pose_token": token, "is_key_frame": False, "prev": "", "next": ""}
        yield {**row, "filename": data["filename"].replace("samples/", "sweeps/")}


def _renamed(row: Row, table: str, mark: str, start: int = 0, keep: tuple[str, ...] = ()) -> Row:
    """The row with `mark` in its tokens; tokens are 32 hexadecimal digits, of which the others tell rows apart."""
    stop = start + len(mark)
    tokens = {key: row[key] for key in _TOKENS[table] if row.get(key) and key not in keep}
    return {**row, **{key: token[:start] + mark + token[stop:] for key, token in tokens.items()}}


def _share_can_files(folder: Path, base: Path, originals: list[dict[str, list[Row]]], names: list[str]) -> None:
    (folder / "can_bus").mkdir(exist_ok=True)
    for number, name in enumerate(names):
        original = originals[number % len(originals)]["scene"][0]["name"]
        for path in sorted((base / "can_bus").glob(f"{original}_*.json")):
            target = folder / "can_bus" / path.name.replace(original, name)
            if not target.exists():
                os.link(path, target)
