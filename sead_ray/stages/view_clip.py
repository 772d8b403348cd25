"""One clip of a run as files to look at. Runs in this process, on its GPU where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import torch

from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.labels.point_cloud import Points, read_sweep
from sead_ray.nuscenes.lidar import lidar_keys
from sead_ray.records import Clip, ClipScore
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.clip_runner import load_clip
from sead_ray.stages.clip_scores import score_loaded_clips
from sead_ray.stages.evaluate import predict_clips
from sead_ray.stages.label_store import labelled_frames, read_labels
from sead_ray.stages.model_actor import ready_model
from sead_ray.stages.progress import say
from sead_ray.stages.promote import newest_round
from sead_ray.storage import Store
from sead_ray.viewing.view import FrameView, ModelView, clip_view

FORMATS = ("rrd", "mcap")


def find_clip(run: Store, name: str) -> Clip:
    """The clip of this token or scene name.

    Raises:
        InputError: the run has none such.
    """
    wanted = (pc.field("clip_token") == name) | (pc.field("name") == name)
    row = next(iter(run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=wanted, batch_size=1)), None)
    if row is None:
        raise InputError(f"{run.path(layout.CLIPS_FILE)} has no clip {name}.")
    return Clip.from_row(row)


def newest_model(run: Store, number: int | None) -> int | None:
    """`number`, or the newest round with a model; None where there is none yet.

    Raises:
        InputError: round `number` has no model.
    """
    if number is None:
        return newest_round(run)
    if not run.is_published(layout.model(number)):
        raise InputError(f"{run.path(layout.model(number))} is not there yet: round {number} has no model.")
    return number


def view_of(run: Store, config: RunConfig, clip: Clip, number: int | None) -> list[FrameView]:
    """What is known of the clip: labels and sweeps where there are any, and what the model of round `number` says.

    Raises:
        InputError: an image is missing or broken.
    """
    tokens = labelled_frames(run, config, {frame.token for frame in clip.frames})
    labels = read_labels(run, config, tokens, {clip.clip_token})
    model, score = (None, None) if number is None else _seen(run, config, clip, number)
    return clip_view(clip, labels, _sweeps(config, clip), model, score)


def write_view(clip: Clip, views: list[FrameView], config: RunConfig, folder: str, formats: list[str]) -> list[str]:
    """Files <folder>/<clip name>.<format>; returns their paths.

    Raises:
        InputError: the extra `view` is not installed.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = []
    for form in formats:
        path = str(Path(folder) / f"{clip.name}.{form}")
        _writer(form)(clip, views, Store(config.data.root), path)
        written.append(path)
    return written


def _writer(form: str) -> Any:
    try:
        if form == "rrd":
            from sead_ray.viewing.rrd import write_rrd

            return write_rrd
        from sead_ray.viewing.mcap import write_mcap

        return write_mcap
    except ImportError as error:
        raise InputError(f"A .{form} needs the package {error.name}: pip install 'sead-ray[view]'.") from None


def _seen(run: Store, config: RunConfig, clip: Clip, number: int) -> tuple[ModelView, ClipScore]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    say(f"view: the model of round {number} looks at {len(clip.frames)} frames of {clip.name} on {device}")
    model, version = ready_model(run.root, layout.model(number), device, "fp32")
    loaded = [load_clip(clip, config.data.root, config.image)]
    (output,) = predict_clips(model, version, loaded, device, decode=True)
    (score,) = score_loaded_clips(model, version, loaded, device, config.score)
    return ModelView(output.plans_m, output.predictions), score


def _sweeps(config: RunConfig, clip: Clip) -> dict[str, Points]:
    """Of frames that have one; py123d's logs are shown without."""
    data = Store(config.data.root)
    if config.data.format != "nuscenes" or not data.exists(config.data.version):
        return {}
    keys = lidar_keys(data, config.data.version, {frame.token for frame in clip.frames})
    return {token: read_sweep(data, key) for token, key in keys.items() if data.exists(key)}
