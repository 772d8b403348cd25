"""A round's label request as files of annotation tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.compute as pc

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.labels.export import EXPORTERS, NEEDS_SWEEPS
from sead_ray.labels.sources import Sources
from sead_ray.labels.task import LabelTask, label_tasks
from sead_ray.nuscenes.lidar import lidar_keys
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.progress import Progress
from sead_ray.storage import Store


def newest_request(run: Store, number: int | None) -> int:
    """`number`, or the newest round that asked for labels.

    Raises:
        InputError: there is none, or not of this round.
    """
    if number is None:
        number = 0
        while run.is_published(layout.selection(number + 1)):
            number += 1
    if not run.is_published(layout.selection(number)):
        raise InputError(
            f"{run.path(layout.selection(number))} is not there yet: round {number} has asked for no labels."
        )
    return number


def requested_tasks(run: Store, config: RunConfig, number: int) -> list[LabelTask]:
    """What round `number` asks annotators for, clip by clip; clips without a bought frame are left out."""
    request: dict[str, list[str]] = run.read_json(layout.label_request(number))["clips"]
    return label_tasks(request, read_clips(run, request), config.labels.context_frames)


def read_clips(run: Store, tokens: Any) -> dict[str, Clip]:
    """These clips of the run, by token.

    Raises:
        InputError: the run does not know one of them.
    """
    wanted = sorted(tokens)
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=pc.field("clip_token").isin(wanted), batch_size=16)
    clips = {row["clip_token"]: Clip.from_row(row) for row in rows}
    if missing := [token for token in wanted if token not in clips]:
        raise InputError(f"{run.path(layout.CLIPS_FILE)} has no clip {missing[0]}.")
    return clips


def export_labels(
    tasks: Sequence[LabelTask], config: RunConfig, tool: str, target: Store, files_at: str = "", images_at: str = ""
) -> list[str]:
    """Writes a request in a tool's files; returns their keys below `target`.

    Args:
        tasks: of `requested_tasks`.
        tool: one of `labels.export.EXPORTERS`.
        files_at, images_at: see `Sources`.

    Raises:
        InputError: nothing is asked for; an image or lidar sweep that the tool needs is missing.
    """
    if not tasks:
        raise InputError("The round bought no frame: there is nothing to label.")
    sources = Sources(Store(config.data.root), _sweeps(config, tasks, tool), files_at, images_at)
    return EXPORTERS[tool](_shown(tasks, tool), target, sources)


def _sweeps(config: RunConfig, tasks: Sequence[LabelTask], tool: str) -> dict[str, str]:
    if tool not in NEEDS_SWEEPS:
        return {}
    if config.data.format != "nuscenes":
        raise InputError(
            f"{tool} draws boxes in lidar sweeps, which are read from nuScenes folders only, not data.format "
            f"{config.data.format}: export another format."
        )
    tokens = {item.frame.token for task in tasks for item in task.frames}
    return lidar_keys(Store(config.data.root), config.data.version, tokens)


def _shown(tasks: Sequence[LabelTask], tool: str) -> Iterator[LabelTask]:
    with Progress(f"export {tool}", len(tasks), "clip") as progress:
        for task in tasks:
            yield task
            progress.advance()
