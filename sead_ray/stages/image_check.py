"""Whether the images that the tables name are there, and whether they decode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sead_ray.config import DataConfig, RunConfig
from sead_ray.errors import InputError
from sead_ray.image_keys import file_of
from sead_ray.nuscenes.images import image_fault
from sead_ray.nuscenes.scene_index import DRIVE_TABLES, SceneIndex, SceneTables
from sead_ray.nuscenes.tables import LIDAR, Row, read_drive_tables
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.progress import Progress, say
from sead_ray.stages.scene_pool import run_scenes
from sead_ray.storage import Store

_LEDGER = f"{layout.PREPARATION}/verified"
SHOWN = 10  # faulty clips that are printed; the report has all


@dataclass(frozen=True)
class VerifiedClip:
    """What verification needs of a clip; `error` where its tables could not be read."""

    clip_token: str
    name: str
    keys: list[str]
    width: int
    height: int
    error: str = ""

    @classmethod
    def of(cls, clip: Clip) -> VerifiedClip:
        cameras = [camera for frame in clip.frames for camera in frame.cameras]
        return cls(
            clip.clip_token,
            clip.name,
            [camera.key for camera in cameras],
            cameras[0].width,
            cameras[0].height,
        )

    @property
    def part(self) -> str:
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:32]
        return f"{_LEDGER}/{digest}.json"


def parts_to_verify(
    run: Store, scenes: Sequence[tuple[str, str]], parts: Sequence[str], faults: dict[str, str]
) -> Iterator[VerifiedClip]:
    """The clips in `parts` of `scenes` (token, name); `faults`: what is wrong with the parts that could not be made."""
    for (token, name), part in zip(scenes, parts, strict=True):
        if part in faults:
            yield VerifiedClip(token, name, [], 0, 0, faults[part])
            continue
        for row in run.iter_rows(part, CLIP_SCHEMA):
            yield VerifiedClip.of(Clip.from_row(row))


def require_images(run: Store, data: DataConfig, index: str, n_scenes: int) -> None:
    """Raises `InputError` for the first key-frame image that is missing or empty; nothing is opened.

    Each folder of images is listed once, since asking for every file costs an hour in a bucket.
    """
    source = Store(data.root)
    reader = SceneIndex(run, f"{index}.parquet")
    listed: dict[str, dict[str, int]] = {}
    with Progress("prepare images", n_scenes, "scene") as progress:
        for position in range(n_scenes):
            for row in _camera_rows(source, data.version, reader.rows(position)):
                folder, _, name = row["filename"].rpartition("/")
                if folder not in listed:
                    try:
                        listed[folder] = source.sizes(folder)
                    except InputError as error:  # a path that leaves the folder, a bucket out of reach
                        raise InputError(f"sample_data {row['token']}: {error}") from None
                size = listed[folder].get(name)
                if not size:
                    what = "does not exist" if size is None else "is empty"
                    raise InputError(f"{source.path(row['filename'])} of sample_data {row['token']} {what}.")
            progress.advance()


def _camera_rows(source: Store, version: str, rows: dict[str, list[str]]) -> Iterator[Row]:
    tables = read_drive_tables(SceneTables(source, version, rows, DRIVE_TABLES), version)
    for (_, channel), row in tables.key_frames.items():
        if channel != LIDAR:
            yield row


def verify_clips(run: Store, config: RunConfig, clips: Iterable[VerifiedClip]) -> None:
    """Decodes every image of `clips` and writes the report; goes on behind every fault.

    The report holds, for each faulty clip, its missing and broken files, and the sentence where its tables could not
    be read. A restart decodes only the clips that were not finished.

    Raises:
        InputError: where anything is wrong, after the report is written.
    """
    clips = list(clips)
    rows = [{**asdict(clip), "part": clip.part} for clip in clips if not clip.error]
    there = set(run.list(_LEDGER))
    pending = [row for row in rows if row["part"].rpartition("/")[2] not in there]
    with Progress("prepare verify", len(rows), "scene", done=len(rows) - len(pending)) as progress:
        for _ in run_scenes(_verify, [run, Store(config.data.root)], pending, config.prepare):
            progress.advance()
    found = [
        {"clip_token": clip.clip_token, "name": clip.name, "error": clip.error}
        | ({"missing": [], "broken": []} if clip.error else run.read_json(clip.part))
        for clip in clips
    ]
    faulty = [clip for clip in found if clip["error"] or clip["missing"] or clip["broken"]]
    report = {
        "n_clips": len(clips),
        "n_faulty_clips": len(faulty),
        "n_images": sum(len(clip.keys) for clip in clips),
        "n_missing": sum(len(clip["missing"]) for clip in found),
        "n_broken": sum(len(clip["broken"]) for clip in found),
        "clips": faulty,
    }
    run.write_json(layout.VERIFICATION, report)
    run.remove(_LEDGER)
    _conclude(report, run.path(layout.VERIFICATION))


def _conclude(report: dict[str, Any], path: str) -> None:
    for clip in report["clips"][:SHOWN]:
        what = clip["error"] or f"{len(clip['missing'])} images missing, {len(clip['broken'])} broken"
        say(f"prepare verify: {clip['name']} ({clip['clip_token']}): {what}", "warning", clip=clip["clip_token"])
    if report["clips"]:
        raise InputError(
            f"{report['n_faulty_clips']} of {report['n_clips']} clips are faulty, with {report['n_missing']} images "
            f"missing and {report['n_broken']} broken: {path} names them."
        )
    say(f"prepare verify: {report['n_images']} images of {report['n_clips']} clips decoded, none missing or broken")


def _verify(clip: dict[str, Any], run: Store, source: Store) -> dict[str, Any]:
    """Decodes the images of one clip; what it finds goes into the ledger."""
    missing: list[str] = []
    broken: list[dict[str, str]] = []
    for key in clip["keys"]:
        if not source.exists(file_of(key)):
            missing.append(key)
        elif reason := image_fault(source, key, clip["width"], clip["height"]):
            broken.append({"key": key, "reason": reason})
    run.write_json(clip["part"], {"missing": missing, "broken": broken})
    return {"part": clip["part"]}
