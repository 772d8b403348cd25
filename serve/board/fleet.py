"""The clips that the scoring service took in lately, with what it answered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sead_ray.errors import InputError
from sead_ray.records import Clip
from sead_ray.report.thumbnails import frames_to_show, thumbnail
from sead_ray.report.trace import shift_trace
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.storage import Store

SHOWN = 12
FRAMES = 12
_DIGEST = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class FleetClip:
    """One clip of the intake. `answer`: `wire.ScoreAnswer` as JSON; `frames`: indices that are shown."""

    digest: str
    at: str
    clip: Clip
    answer: dict[str, Any]
    frames: list[int]

    @property
    def is_key(self) -> list[bool]:
        return [bool(value) for value in self.answer.get("is_key", [])]

    @property
    def key_frames(self) -> range:
        found = self.answer.get("key_frames") or {"start": 0, "length": 0}
        return range(found["start"], found["start"] + found["length"])

    @property
    def trace(self) -> Markup:
        start_us = self.clip.frames[0].timestamp_us
        times_s = [(frame.timestamp_us - start_us) * 1e-6 for frame in self.clip.frames]
        shifts = self.answer.get("shift_agents", []), self.answer.get("shift_map", [])
        return shift_trace(*shifts, self.is_key, self.clip.name, times_s, f"fleet-{self.digest}")


def latest_clips(run: Store, limit: int = SHOWN) -> list[FleetClip]:
    """The clips that came last, newest first; one whose record is damaged is left out."""
    stamps = run.find(layout.INTAKE_SCORES, ".json")
    newest = sorted(stamps, key=lambda key: int(stamps[key].rpartition("-")[2]), reverse=True)
    found = []
    for key in newest[:limit]:
        try:
            found.append(_read(run, key.rpartition("/")[2].removesuffix(".json")))
        except (InputError, KeyError, TypeError, ValueError, json.JSONDecodeError):
            continue
    return found


def fleet_image(run: Store, data: Store, digest: str, index: int) -> bytes | None:
    """A thumbnail of the front camera; None where there is no such clip, frame or image."""
    if not _DIGEST.fullmatch(digest) or not run.exists(layout.intake_clip(digest)):
        return None
    frames = _clip(run, digest).frames
    if not 0 <= index < len(frames):
        return None
    front = next((camera for camera in frames[index].cameras if camera.name == "CAM_FRONT"), None)
    return thumbnail(data, front.key) if front else None


def _read(run: Store, digest: str) -> FleetClip:
    record = run.read_json(layout.intake_score(digest))
    clip, answer = _clip(run, digest), record["answer"]
    key_frames = answer.get("key_frames") or {"start": 0, "length": 0}
    keys = range(key_frames["start"], key_frames["start"] + key_frames["length"])
    return FleetClip(digest, record["at"], clip, answer, frames_to_show(len(clip.frames), keys, FRAMES))


def _clip(run: Store, digest: str) -> Clip:
    return Clip.from_row(next(iter(run.iter_rows(layout.intake_clip(digest), CLIP_SCHEMA))))
