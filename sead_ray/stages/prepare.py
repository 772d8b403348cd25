"""Preparation: a nuScenes folder → `clips.parquet` (no label in it) and `labels.parquet` (the oracle)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from sead_ray.config import RunConfig, WorldConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.schemas import CLIP_SCHEMA, LABEL_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store
from sead_ray.synthetic import generate_world

Role = Literal["pool", "val"]


def ensure_world(config: RunConfig) -> None:
    """Generates the embedded data set at `data.root` where the configuration asks for it; nothing where it is there."""
    if config.world.generate:
        generate(config.world, config.data.root)


def generate(world: WorldConfig, root: str, processes: int | None = None) -> None:
    """Writes the embedded world, with progress. Resumes by scene."""
    with Progress("generate world", world.scenes, "scene") as progress:
        generate_world(world, root, processes, lambda done, _total: progress.advance(done - progress.done))


def prepare(run: Store, config: RunConfig) -> None:
    """Publishes the clips of pool and val, and their labels; stages already published are left alone.

    In `labels.mode: wait` only val's annotations are read: those of the pool are what the run asks annotators for.

    Raises:
        InputError: a missing table, image, CAN file or map, damaged rows, an empty split; names the culprit.
    """
    if run.is_published(layout.CLIPS) and run.is_published(layout.LABELS):
        return
    folder = NuScenesFolder(config.data)
    folder.check_logs_disjoint()
    scenes: list[tuple[str, Role]] = [(token, "pool") for token in folder.pool_scenes()]
    scenes += [(token, "val") for token in folder.val_scenes()]
    if not run.is_published(layout.CLIPS):
        _publish_clips(run, folder, scenes)
    if not run.is_published(layout.LABELS):
        labelled = scenes if config.labels.mode == "oracle" else [scene for scene in scenes if scene[1] == "val"]
        _publish_labels(run, folder, labelled)


def _publish_clips(run: Store, folder: NuScenesFolder, scenes: list[tuple[str, Role]]) -> None:
    counts = {"pool": [0, 0], "val": [0, 0]}

    def rows(progress: Progress) -> Iterator[dict[str, Any]]:
        for token, role in scenes:
            clip = folder.clip(token, role)
            counts[role][0] += 1
            counts[role][1] += len(clip.frames)
            progress.advance()
            yield clip.to_row()

    with Progress("prepare clips", len(scenes), "scene") as progress:
        # small row groups: Ray Data's readers and the trainers take single clips out of them
        run.write_table(layout.CLIPS_FILE, rows(progress), CLIP_SCHEMA, group=16)
    run.publish(
        layout.CLIPS,
        {
            "pool_clips": counts["pool"][0],
            "pool_frames": counts["pool"][1],
            "val_clips": counts["val"][0],
            "val_frames": counts["val"][1],
        },
    )


def _publish_labels(run: Store, folder: NuScenesFolder, scenes: list[tuple[str, Role]]) -> None:
    def rows(progress: Progress) -> Iterator[dict[str, Any]]:
        for token, _ in scenes:
            for labels in folder.labels(token):
                yield labels.to_row()
            progress.advance()

    with Progress("prepare labels", len(scenes), "scene") as progress:
        run.write_table(layout.LABELS_FILE, rows(progress), LABEL_SCHEMA, group=64)
    run.publish(layout.LABELS, {"n_scenes": len(scenes)})
