"""VAD's info files → the clips and labels of a run folder, in the place of `prepare`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.info_clips import InfoReader
from sead_ray.nuscenes.info_labels import category_table
from sead_ray.nuscenes.infos import scenes_of
from sead_ray.nuscenes.infos_pickle import Info, read_infos
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store

Role = Literal["pool", "val"]


@dataclass(frozen=True)
class _Scene:
    """A scene's infos in the order of time, its name, role and file."""

    name: str
    role: Role
    path: str
    infos: list[Info]

    @property
    def has_labels(self) -> bool:
        return "gt_boxes" in self.infos[0]


def import_infos(run: Store, config: RunConfig, train: str, val: str, with_tables: bool = True) -> None:
    """Publishes clips and labels of the two files; stages already published are left alone.

    Args:
        train, val: paths or URIs of the files of pool and val; val may be empty where there is none.
        with_tables: see `InfoReader`.

    Raises:
        InputError: a file that is no pickle of infos or asks for forbidden names, a damaged info, a missing image,
            table or map, a scene or log in both files; names the culprit.
    """
    if run.is_published(layout.CLIPS) and run.is_published(layout.LABELS):
        return
    reader = InfoReader(config.data, with_tables)
    scenes = [scene for path, role in ((train, "pool"), (val, "val")) if path for scene in _scenes(reader, path, role)]
    _check_apart(reader, scenes, config.data.allow_shared_logs)
    if not run.is_published(layout.CLIPS):
        _publish_clips(run, reader, scenes)
    if not run.is_published(layout.LABELS):
        _publish_labels(run, reader, _to_label(scenes, config.labels.mode))


def _scenes(reader: InfoReader, path: str, role: Role) -> list[_Scene]:
    """By name, as `prepare` orders them."""
    found = [
        _Scene(reader.facts(infos).name, role, path, infos) for infos in scenes_of(read_infos(path), path).values()
    ]
    return sorted(found, key=lambda scene: scene.name)


def _check_apart(reader: InfoReader, scenes: list[_Scene], allow_shared_logs: bool) -> None:
    of_role: dict[str, list[_Scene]] = {"pool": [], "val": []}
    for scene in scenes:
        of_role[scene.role].append(scene)
    if shared := sorted({scene.name for scene in of_role["pool"]} & {scene.name for scene in of_role["val"]}):
        raise InputError(f"Scene {shared[0]} is in both files.")
    logs = [{reader.facts(scene.infos).log_token for scene in of_role[role]} for role in ("pool", "val")]
    if (shared := sorted(logs[0] & logs[1])) and not allow_shared_logs:
        raise InputError(
            f"The two files share {len(shared)} log(s), one is {shared[0]}: divide them by log, or set "
            "data.allow_shared_logs=true."
        )


def _to_label(scenes: list[_Scene], mode: str) -> list[_Scene]:
    """All scenes, but only val's where annotators deliver those of the pool."""
    wanted = [scene for scene in scenes if mode == "oracle" or scene.role == "val"]
    for scene in wanted:
        if not scene.has_labels:
            raise InputError(
                f"{scene.path} holds no boxes (info {scene.infos[0]['token']} has no field 'gt_boxes'): with "
                "labels.mode=wait annotators deliver them."
            )
    return wanted


def _publish_clips(run: Store, reader: InfoReader, scenes: list[_Scene]) -> None:
    def row(scene: _Scene) -> list[dict[str, Any]]:
        return [reader.clip(scene.infos, scene.role).to_row()]

    run.write_table(layout.CLIPS_FILE, _with_progress("import clips", scenes, row), CLIP_SCHEMA, group=16)
    facts: dict[str, int] = {}
    for role in ("pool", "val"):
        lengths = [len(scene.infos) for scene in scenes if scene.role == role]
        facts |= {f"{role}_clips": len(lengths), f"{role}_frames": sum(lengths)}
    run.publish(layout.CLIPS, facts)


def _publish_labels(run: Store, reader: InfoReader, scenes: list[_Scene]) -> None:
    tables = {
        path: category_table([info for scene in scenes if scene.path == path for info in scene.infos])
        for path in {scene.path for scene in scenes}
    }

    def rows(scene: _Scene) -> list[dict[str, Any]]:
        clip = reader.clip(scene.infos, scene.role)
        return [labels.to_row() for labels in reader.labels(scene.infos, clip, tables[scene.path])]

    run.write_table(layout.LABELS_FILE, _with_progress("import labels", scenes, rows), LABEL_SCHEMA, group=64)
    run.publish(layout.LABELS, {"n_scenes": len(scenes)})


def _with_progress(
    title: str, scenes: list[_Scene], rows: Callable[[_Scene], list[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    with Progress(title, len(scenes), "scene") as progress:
        for scene in scenes:
            yield from rows(scene)
            progress.advance()
