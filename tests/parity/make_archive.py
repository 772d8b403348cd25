"""Makes the small archive of this folder from a full one: `python -m tests.parity.make_archive FULL_FOLDER`.

Arrays that are only compared become evenly spaced entries; those that are fed in stay whole, for fewer cases.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.archive import SHAPE, SMALL_FOLDER, Array, FullArchive, sample_index

ENTRIES = 480  # kept of every output
GRADIENT_ENTRIES = 200
DECODED_ROWS = 30
PLAN_CASES = 11  # the first ones hold the special cases
METRIC_CASES = 40
# Kept whole: a cell of the rotation, or an agent's number of keys, is a case of its own; both compress to little.
WHOLE_OUTPUTS = ("rotate_source", "_margins", "_agent_dis_margin", "_padding_mask_count")
# Of the last frame also what the losses read, so that they can be checked on upstream's own numbers.
HEAD_OUTPUTS = ("all_cls_scores", "all_bbox_preds", "all_traj_preds", "all_traj_cls_scores", "map_all_cls_scores")
HEAD_OUTPUTS += ("map_all_bbox_preds", "map_all_pts_preds", "ego_fut_preds")
UNUSED_INPUTS = ("images", "ego_his_trajs", "ego_lcf_feat")


def make_archive(full: FullArchive, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    outputs = full.table("outputs.npz")
    heads = {f"frame{len(full.inputs['images']) - 1}_{name}" for name in HEAD_OUTPUTS}
    kept = heads | {name for name in outputs if any(part in name for part in WHOLE_OUTPUTS)}
    whole = {name: value for name, value in outputs.items() if name in kept}
    rest = {name: value for name, value in outputs.items() if name not in whole}
    _save(folder / "outputs.npz", whole | _sampled(rest, ENTRIES))
    losses = full.table("losses.npz")
    gradients = {name: value for name, value in losses.items() if name.startswith("grad:")}
    matches = {name: _narrow(value) for name, value in losses.items() if name not in gradients}
    _save(folder / "losses.npz", matches | _sampled(gradients, GRADIENT_ENTRIES))
    _save(folder / "inputs.npz", _inputs(full.inputs))
    _save(folder / "keys.npz", _keys(full))
    _save(folder / "decoded.npz", {name: _first(name, value) for name, value in full.table("decoded.npz").items()})
    _save(folder / "plan_losses.npz", _cases(full.table("plan_losses.npz"), PLAN_CASES, "values"))
    _save(folder / "planning_metric.npz", _cases(full.table("planning_metric.npz"), METRIC_CASES, "count"))
    (folder / "noise.json").write_text(json.dumps(_noise(full.noise), indent=1) + "\n")


def _sampled(arrays: Mapping[str, Array], count: int) -> dict[str, Array]:
    out: dict[str, Array] = {}
    for name, value in arrays.items():
        if value.size <= count:
            out[name] = value
        else:
            out[name] = value.reshape(-1)[sample_index(value.size, count)]
            out[name + SHAPE] = np.array(value.shape)
    return out


def _narrow(value: Array) -> Array:
    """Whole numbers in the smallest type that holds them."""
    if value.dtype.kind != "i" or not value.size:
        return value
    return value.astype(np.promote_types(np.min_scalar_type(value.min()), np.min_scalar_type(value.max())))


def _inputs(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The images are made of square blocks of one colour, above rows of padding."""
    images = inputs["images"]
    height = int(np.flatnonzero(images.any(axis=(0, 1, 3, 4)))[-1]) + 1
    filled = images[:, :, :height]
    for block in (64, 32, 16, 8, 4, 2, 1):
        blocks = filled[:, :, ::block, ::block]
        rebuilt = blocks.repeat(block, 2).repeat(block, 3)[:, :, :height, : images.shape[3]]
        if rebuilt.shape == filled.shape and np.array_equal(rebuilt, filled):
            break
    kept = {name: value for name, value in inputs.items() if name not in UNUSED_INPUTS}
    return kept | {"image_block": np.array(block), "image_blocks": blocks, "image_valid_height": np.array(height)}


def _keys(full: FullArchive) -> dict[str, Array]:
    columns: dict[str, Array] = {}
    for preset in ("vad_tiny", "vad_base"):
        keys = full.keys(preset)
        columns[f"{preset}_name"] = np.array([key.name for key in keys], dtype="S")
        columns[f"{preset}_shape"] = np.array([",".join(map(str, key.shape)) for key in keys], dtype="S")
        columns[f"{preset}_dtype"] = np.array([key.dtype for key in keys], dtype="S")
        columns[f"{preset}_kind"] = np.array([key.kind for key in keys], dtype="S")
    return columns


def _first(name: str, value: Array) -> Array:
    return value[:DECODED_ROWS] if "_3d" in name else value


def _cases(arrays: Mapping[str, Array], count: int, counted: str) -> dict[str, Array]:
    """The first cases of every array whose first dimension counts them."""
    total = len(arrays[counted])
    return {name: value[:count] if value.shape[:1] == (total,) else value for name, value in arrays.items()}


def _noise(noise: Mapping[str, Any]) -> dict[str, Any]:
    """Of each output the largest and the mean difference."""
    return {name: value if name == "_losses" else value[:2] for name, value in noise.items()}


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    """An .npz, by LZMA: the trajectories are the same in every layer, too far apart for numpy's own compression."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, value in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_LZMA
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(value), allow_pickle=False)
            archive.writestr(entry, buffer.getvalue())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("full", type=Path, help="folder with inputs.npz, outputs.npz, ... as the original wrote them")
    parser.add_argument("--out", type=Path, default=SMALL_FOLDER)
    arguments = parser.parse_args()
    make_archive(FullArchive(arguments.full, "full"), arguments.out)
