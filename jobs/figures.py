"""The JSON file to which a measurement writes its figures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sead_ray.errors import InputError


def require_folder(output: str | None) -> None:
    """Raises `InputError` where the file could not be written; asked before anything is measured."""
    if output and not Path(output).resolve().parent.is_dir():
        raise InputError(f"output: the folder {Path(output).resolve().parent} does not exist.")


def write_figures(output: str | None, figures: dict[str, Any]) -> None:
    """Atomic; nothing where no file was named."""
    if output:
        partial = f"{output}.partial"
        Path(partial).write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        os.replace(partial, output)
