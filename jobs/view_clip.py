"""Writes one clip as files to look at: a recording for rerun (.rrd) and one for Foxglove (.mcap), with cameras, lidar,
labels, map, what the run's model detects and plans, and the feature shift over time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from jobs.cli import run_job
from jobs.round_job import OnRunConfig
from sead_ray.errors import InputError
from sead_ray.stages.plan import require_prepared
from sead_ray.stages.view_clip import FORMATS, find_clip, newest_model, view_of, write_view
from sead_ray.storage import Store


class ViewClipConfig(OnRunConfig):
    clip: CliPositionalArg[str] = ""
    """Token or scene name of a clip of the run."""
    to: Literal["both", "rrd", "mcap"] = "both"
    round: int | None = Field(default=None, ge=0)
    """Whose model looks at the clip; default: the newest."""
    with_model: bool = True
    """Let it look; without, only what is recorded and labelled is shown."""
    output: str | None = None
    """Local folder to write to; default <run>/views, or views where the run folder is in a bucket."""


def plan(config: ViewClipConfig) -> str:
    run = _prepared(config)
    clip, number = find_clip(run, config.clip), _round(run, config)
    model = "no model" if number is None else f"the model of round {number}"
    return f"Would write {clip.name} ({clip.clip_token}), {len(clip.frames)} frames with {model}, to {_folder(config)}."


def job(config: ViewClipConfig) -> str:
    run = _prepared(config)
    clip = find_clip(run, config.clip)
    views = view_of(run, config.run, clip, _round(run, config))
    formats = list(FORMATS) if config.to == "both" else [config.to]
    return "\n".join(write_view(clip, views, config.run, _folder(config), formats))


def _prepared(config: ViewClipConfig) -> Store:
    if not config.clip:
        raise InputError("Name a clip: python -m jobs.view_clip TOKEN (its token, or its scene's name).")
    run = Store(config.run_dir)
    require_prepared(run)
    return run


def _round(run: Store, config: ViewClipConfig) -> int | None:
    return newest_model(run, config.round) if config.with_model else None


def _folder(config: ViewClipConfig) -> str:
    if config.output:
        if not Store(config.output).is_local:
            raise InputError(f"{config.output} is in a bucket: viewers' files are written to a local folder.")
        return config.output
    run = Store(config.run_dir)
    return run.path("views") if run.is_local else "views"


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ViewClipConfig, prog="python -m jobs.view_clip")
