"""Exports a model folder (--model_dir) as a checkpoint that hustvl/VAD loads (--checkpoint FILE.pth)."""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.model.checkpoint import export_checkpoint, read_exportable, size_changes


class ExportConfig(RunConfig):
    model_dir: str = ""
    """A model's folder: of a round (runs/demo/rounds/00/model), or imported."""
    checkpoint: str = ""
    """The .pth to write."""


def plan(config: ExportConfig) -> str:
    _require_options(config)
    state, card = read_exportable(config.model_dir, config.checkpoint)
    return f"Would write model {card['model_version']} ({len(state)} tensors) to {config.checkpoint}."


def job(config: ExportConfig) -> str:
    _require_options(config)
    changes = size_changes(export_checkpoint(config.model_dir, config.checkpoint))
    said = ", ".join(f"{key} {value}" for key, value in changes.items())
    note = f" Upstream's configuration must say the same of: {said}." if said else ""
    return f"{config.checkpoint}{note}"


def _require_options(config: ExportConfig) -> None:
    for option in ("model_dir", "checkpoint"):
        if not getattr(config, option):
            raise InputError(f"--{option} is missing: see --help.")


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=ExportConfig, prog="python -m jobs.export_checkpoint")
