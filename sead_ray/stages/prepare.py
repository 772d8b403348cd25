"""Preparation: a nuScenes folder → `clips.parquet` (no label in it) and `labels.parquet` (the oracle).

One pass over the tables divides them by scene; then a Ray Data job over scenes makes clips, and another labels. Each
finished scene is a part in the ledger, so a restart redoes at most one scene a worker. The published files are the
parts joined in the order of the scenes: their bytes do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.labels import LabelReader
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout, metrics
from sead_ray.stages.image_check import VerifiedClip, parts_to_verify, require_images, verify_clips
from sead_ray.stages.preparation import (
    DRIVE,
    LABELS,
    Scene,
    divide_tables,
    make_parts,
    part_keys,
    publish_clips,
    publish_labels,
)
from sead_ray.stages.prepare_logs import prepare_logs
from sead_ray.stages.scene_workers import make_clip, make_labels
from sead_ray.stages.world import generate
from sead_ray.storage import Store


def ensure_world(config: RunConfig) -> None:
    """Generates the embedded data set at `data.root` where the configuration asks for it; nothing where it is there."""
    if config.world.generate:
        generate(config.world, config.data.root)


def prepare(run: Store, config: RunConfig, verify: bool = False) -> None:
    """Publishes the clips of pool and val, and their labels; stages already published are left alone.

    In `labels.mode: wait` only val's annotations are read: those of the pool are what the run asks annotators for.

    Args:
        verify: decode every image before the clips are published, and report all that is wrong instead of the first.

    Raises:
        InputError: a missing table, image, CAN file or map, damaged rows, an empty split; names the culprit.
    """
    if run.is_published(layout.CLIPS) and run.is_published(layout.LABELS):
        if verify:
            verify_clips(run, config, _published_clips(run))
        return
    with metrics.stage(run.root, "prepare"):
        if config.data.format == "py123d":
            prepare_logs(run, config, verify)
        else:
            _prepare_scenes(run, config, verify)
    run.remove(layout.PREPARATION)


def _prepare_scenes(run: Store, config: RunConfig, verify: bool) -> None:
    folder = NuScenesFolder(config.data)
    folder.check_logs_disjoint()
    scenes: list[Scene] = [(token, "pool") for token in folder.pool_scenes()]
    scenes += [(token, "val") for token in folder.val_scenes()]
    names = {token: row["name"] for token, row in folder.scene_rows.items()}
    digests = divide_tables(run, config, DRIVE, scenes)
    if not run.is_published(layout.CLIPS):
        _publish_clips(run, config, scenes, digests, names, verify)
    elif verify:
        verify_clips(run, config, _published_clips(run))
    if not run.is_published(layout.LABELS):
        _publish_labels(run, config, scenes, digests)


def _publish_clips(
    run: Store, config: RunConfig, scenes: list[Scene], digests: list[str], names: dict[str, str], verify: bool
) -> None:
    if not verify:
        require_images(run, config.data, DRIVE, len(scenes))
    parts = part_keys("clips", config, scenes, [digests])
    rows = [
        {"token": token, "role": role, "part": part, "positions": [position]}
        for position, ((token, role), part) in enumerate(zip(scenes, parts, strict=True))
    ]
    faults: dict[str, str] = {}
    for answer in make_parts(run, config, "clips", make_clip, rows, [DRIVE]):
        if answer["error"] and not verify:
            raise InputError(answer["error"])
        if answer["error"]:
            faults[answer["part"]] = answer["error"]
    if verify:
        named = [(token, names[token]) for token, _ in scenes]
        verify_clips(run, config, parts_to_verify(run, named, parts, faults))
    publish_clips(run, parts)


def _publish_labels(run: Store, config: RunConfig, scenes: list[Scene], digests: list[str]) -> None:
    chosen = [position for position, (_, role) in enumerate(scenes) if config.labels.mode == "oracle" or role == "val"]
    labelled = [scenes[position] for position in chosen]
    if labelled:  # of a test split nothing is, and no annotation table exists
        LabelReader(Store(config.data.root), config.data.version)  # refuses one that should be
    label_digests = divide_tables(run, config, LABELS, labelled) if labelled else []
    parts = part_keys("labels", config, labelled, [[digests[position] for position in chosen], label_digests])
    rows = [
        {"token": scenes[position][0], "part": part, "positions": [position, number]}
        for number, (position, part) in enumerate(zip(chosen, parts, strict=True))
    ]
    for answer in make_parts(run, config, "labels", make_labels, rows, [DRIVE, LABELS]):
        if answer["error"]:
            raise InputError(answer["error"])
    publish_labels(run, parts)


def _published_clips(run: Store) -> Iterator[VerifiedClip]:
    for row in run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, batch_size=1):
        yield VerifiedClip.of(Clip.from_row(row))
