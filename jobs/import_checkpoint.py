"""Imports a checkpoint of hustvl/VAD (--checkpoint FILE.pth) as a model folder (--model_dir) to score with or serve.

No code of the file is executed. Missing, unknown or mis-shaped keys are named, and nothing is written then.
"""

# No `from __future__ import annotations`: pydantic could not find Literal where runpy runs this file as __main__.
from typing import Literal

from pydantic import Field

from jobs.cli import run_job
from sead_ray.config import ImageConfig, ModelConfig, RunConfig, Schema
from sead_ray.errors import InputError
from sead_ray.model.checkpoint import IMAGE_WIDTHS, UpstreamCheckpoint, import_checkpoint, read_upstream


class ImportModel(ModelConfig):
    preset: Literal["auto", "vad_tiny", "vad_base", "vad_nano"] = "auto"  # type: ignore[assignment]
    """Size that the checkpoint must have; auto: whichever published size it has."""


class ImportImage(Schema):
    """How images reach the imported model; its card keeps it."""

    width: int | None = Field(default=None, ge=32)
    """Width after the resize; None: as published, 640 for vad_tiny and 1280 for vad_base."""
    decode: Literal["full", "dct"] = "full"
    """Published weights need full."""


class ImportConfig(RunConfig):
    checkpoint: str = ""
    """The .pth to read."""
    model_dir: str = ""
    """Folder to write: model.json and weights.safetensors."""
    model: ImportModel = ImportModel()  # type: ignore[assignment]
    image: ImportImage = ImportImage()  # type: ignore[assignment]


def read(config: ImportConfig) -> tuple[UpstreamCheckpoint, ImageConfig]:
    for option in ("checkpoint", "model_dir"):
        if not getattr(config, option):
            raise InputError(f"--{option} is missing: see --help.")
    preset = None if config.model.preset == "auto" else config.model.preset
    found = read_upstream(config.checkpoint, preset, config.model.overrides)
    width = config.image.width or IMAGE_WIDTHS[found.size.preset]
    return found, ImageConfig(width=width, decode=config.image.decode)


def plan(config: ImportConfig) -> str:
    found, image = read(config)
    return (
        f"Would write {config.checkpoint} ({found.size.preset}, {len(found.state)} tensors, images {image.width} "
        f"wide) to {config.model_dir}."
    )


def job(config: ImportConfig) -> str:
    found, image = read(config)
    card = import_checkpoint(found, config.model_dir, image, config.score)
    return f"Model {card['model_version']} ({found.size.preset}, {len(found.state)} tensors): {config.model_dir}"


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ImportConfig, prog="python -m jobs.import_checkpoint")
