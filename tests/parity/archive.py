"""Archives of the original's numbers: the small one in this folder, and the full one that SEAD_PARITY_DIR names.

Both hold the same files and names, so that the same cases run on both. In the small one a long array is replaced by
evenly spaced entries of it, with its shape beside it (`NAME@shape`), and images by one pixel of each block.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sead_ray.model.presets import PRESETS
from tests.parity import weight_rule

SMALL_FOLDER = Path(__file__).parent / "archive"
VARIABLE = "SEAD_PARITY_DIR"
SHAPE = "@shape"

Array = NDArray[Any]


@dataclass(frozen=True)
class Key:
    """A row of upstream's state_dict. kind: param, param_frozen or buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str


class Archive:
    """The small archive; `FullArchive` reads the folder as it was made."""

    files: tuple[str, ...] = (
        "decoded.npz",
        "inputs.npz",
        "keys.npz",
        "losses.npz",
        "noise.json",
        "outputs.npz",
        "plan_losses.npz",
        "planning_metric.npz",
    )

    def __init__(self, folder: Path, label: str) -> None:
        self.folder, self.label = folder, label
        self._arrays: dict[str, dict[str, Array]] = {}

    def path(self, file: str) -> Path:
        path = self.folder / file
        assert path.is_file(), f"The parity archive {self.folder} has no {file}."
        return path

    def names(self, file: str) -> list[str]:
        """Names of a file's arrays; none where the file is missing, which is a failure of its own."""
        if not (self.folder / file).is_file():
            return []
        return [name for name in np.load(self.folder / file).files if not name.endswith(SHAPE)]

    def array(self, file: str, name: str) -> Array:
        """A whole array; fails where the small archive keeps a part only."""
        held = self._load(file)
        assert name in held, f"{self.path(file)} has no {name!r}."
        assert name + SHAPE not in held, f"{self.path(file)} holds entries of {name!r} only."
        return held[name]

    def table(self, file: str) -> dict[str, Array]:
        """All arrays of a file that is kept whole."""
        return {name: self.array(file, name) for name in self.names(file)}

    def sampled(self, file: str, name: str) -> tuple[Array, Array, tuple[int, ...]]:
        """(flat indices, values there, shape) of an array."""
        held = self._load(file)
        assert name in held, f"{self.path(file)} has no {name!r}."
        values = held[name]
        if name + SHAPE in held:
            shape = tuple(held[name + SHAPE].tolist())
            return sample_index(int(np.prod(shape)), values.size), values, shape
        return np.arange(values.size), values.reshape(-1), values.shape

    def _load(self, file: str) -> dict[str, Array]:
        if file not in self._arrays:
            with np.load(self.path(file), allow_pickle=False) as arrays:
                self._arrays[file] = {name: arrays[name] for name in arrays.files}
        return self._arrays[file]

    @cached_property
    def noise(self) -> dict[str, Any]:
        return json.loads(self.path("noise.json").read_text())

    @cached_property
    def inputs(self) -> dict[str, Array]:
        inputs = dict(self.table("inputs.npz"))
        block, valid = inputs.pop("image_block").item(), inputs.pop("image_valid_height").item()
        filled = inputs.pop("image_blocks").repeat(block, 2).repeat(block, 3)[:, :, :valid]
        padding = [(0, 0), (0, 0), (0, int(inputs["img_shape"][0]) - valid), (0, 0), (0, 0)]
        inputs["images"] = np.pad(filled, padding)
        return inputs

    def keys(self, preset: str) -> list[Key]:
        """Upstream's state_dict, in order."""
        columns = [
            self.array("keys.npz", f"{preset}_{column}").astype(str).tolist()
            for column in ("name", "shape", "dtype", "kind")
        ]
        return [Key(name, _shape(shape), dtype, kind) for name, shape, dtype, kind in zip(*columns, strict=True)]

    def weights(self, preset: str) -> dict[str, torch.Tensor]:
        """Upstream's state_dict by the rule."""
        return {key.name: torch.from_numpy(np.asarray(self.tensor(key))) for key in self.keys(preset)}

    def tensor(self, key: Key) -> Array:
        return weight_rule.tensor(key.name, key.shape)


class FullArchive(Archive):
    """A folder with its own rule of the weights, and whole arrays."""

    files = (
        "checksums.json",
        "decoded.npz",
        "inputs.npz",
        "losses.json",
        "losses.npz",
        "noise.json",
        "outputs.npz",
        "params.json",
        "plan_losses.npz",
        "planning_metric.npz",
        "vad_base_keys.tsv",
        "vad_tiny_keys.tsv",
        "weights.py",
    )

    @cached_property
    def inputs(self) -> dict[str, Array]:
        return self.table("inputs.npz")

    @cached_property
    def _rule(self) -> Any:
        spec = importlib.util.spec_from_file_location(f"parity_weights_{id(self)}", self.path("weights.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def keys(self, preset: str) -> list[Key]:
        rows = self.path(f"{preset}_keys.tsv").read_text().splitlines()
        assert rows[0].split("\t") == ["key", "shape", "dtype", "kind"], f"{preset}_keys.tsv has other columns"
        columns = [row.split("\t") for row in rows[1:]]
        return [Key(name, _shape(shape), dtype, kind) for name, shape, dtype, kind in columns]

    def tensor(self, key: Key) -> Array:
        return self._rule.tensor(key.name, list(key.shape))


def sample_index(size: int, count: int) -> Array:
    """`count` flat indices spread evenly over `size`."""
    return np.arange(count, dtype=np.int64) * size // count


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",")) if text else ()


def archives() -> list[Archive]:
    """The small archive, and the full one where the variable is set (to an existing folder or not)."""
    found: list[Archive] = [Archive(SMALL_FOLDER, "small")]
    if os.environ.get(VARIABLE):
        found.append(FullArchive(Path(os.environ[VARIABLE]), "full"))
    return found


ARCHIVES = archives()
FULL_ARCHIVES = [archive for archive in ARCHIVES if isinstance(archive, FullArchive)]
PRESET = "vad_tiny"  # the size whose outputs the archives hold
SIZE = PRESETS[PRESET]
