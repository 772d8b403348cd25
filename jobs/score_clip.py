"""Sends one clip of a prepared run folder to a running scoring service and prints its answer."""

from __future__ import annotations

import json

import pyarrow.compute as pc

from jobs.cli import run_job
from jobs.service import service_client, service_errors
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.plan import require_prepared
from sead_ray.storage import Store


class ScoreClipConfig(RunConfig):
    url: str = "http://127.0.0.1:8000"
    """Address of the service."""
    clip: str = ""
    """Clip token or scene name; empty: the first clip of the pool."""


def find_clip(config: ScoreClipConfig) -> Clip:
    """The clip that the configuration names.

    Raises:
        InputError: the run folder is not prepared, or has no such clip.
    """
    run = Store(config.run_dir)
    require_prepared(run)
    wanted = (pc.field("clip_token") == config.clip) | (pc.field("name") == config.clip)
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=wanted if config.clip else pc.field("split") == "pool")
    row = next(iter(rows), None)
    if row is None:
        raise InputError(f"{run.path(layout.CLIPS_FILE)} has no clip {config.clip!r}.")
    return Clip.from_row(row)


def plan(config: ScoreClipConfig) -> str:
    clip = find_clip(config)
    return f"Would send clip {clip.name} ({len(clip.frames)} frames, {6 * len(clip.frames)} images) to {config.url}."


def job(config: ScoreClipConfig) -> str:
    clip = find_clip(config)
    with service_errors(config.url), service_client(config.url) as client:
        return json.dumps(client.score(clip, config.data.root).model_dump(mode="json"), indent=1)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ScoreClipConfig, prog="python -m jobs.score_clip")
