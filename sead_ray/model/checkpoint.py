"""hustvl/VAD's checkpoints: in as a model folder, out again as a `.pth` that upstream loads. Bit for bit both ways."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sead_ray.config import ImageConfig, ScoreConfig
from sead_ray.errors import InputError
from sead_ray.model.keys import check_keys, compare_keys
from sead_ray.model.presets import PRESETS, VADSize, size_from_dict, sized
from sead_ray.model.tensor_file import read_tensor_file
from sead_ray.model.vad import VAD
from sead_ray.model.weights import CARD, read_model, upstream_names, write_model
from sead_ray.records import AGENT_CLASSES
from sead_ray.storage import Store

IMAGE_WIDTHS = {"vad_tiny": 640, "vad_base": 1280}  # VAD configs: RandomScaleImageMultiViewImage of 0.4 and 0.8


@dataclass(frozen=True)
class UpstreamCheckpoint:
    """A checked checkpoint: tensors under our names, the size they fit, and where they come from."""

    state: dict[str, Tensor]
    size: VADSize
    origin: dict[str, Any]


def read_upstream(path: str, preset: str | None, overrides: Mapping[str, Any]) -> UpstreamCheckpoint:
    """Reads and checks hustvl/VAD's `.pth`; `preset` None: whichever published size it has.

    Args:
        overrides: fields of `VADSize` in which the checkpoint's configuration differed from the published one.

    Raises:
        InputError: the file is unreadable (see `read_tensor_file`), of another preset, or has missing, unknown or
            mis-shaped keys, all of which are named.
    """
    if preset is not None and preset not in IMAGE_WIDTHS:
        raise InputError(f"model.preset {preset} is not a size of hustvl/VAD, which has {' and '.join(IMAGE_WIDTHS)}.")
    file = read_tensor_file(path)
    sizes = {name: sized(name, overrides) for name in IMAGE_WIDTHS}
    differences = {name: compare_keys(_upstream_tensors(size), file.tensors) for name, size in sizes.items()}
    nearest = min(differences, key=lambda name: len(differences[name]))
    wanted = preset or nearest
    if wanted != nearest and len(differences[nearest]) < len(differences[wanted]) / 10:
        raise InputError(
            f"{path} is a checkpoint of {nearest}, but model.preset is {wanted}: set --model.preset {nearest}."
        )
    if differences[wanted]:
        raise differences[wanted].error(path, f"a checkpoint of {wanted}")
    names = upstream_names(_blank_state(sizes[wanted]))
    state = {key: file.tensors[name].detach().clone() for key, name in names.items()}  # apart from shared storage
    return UpstreamCheckpoint(state, sizes[wanted], _origin(path, file.meta))


def import_checkpoint(
    checkpoint: UpstreamCheckpoint, model_dir: str, image: ImageConfig, score: ScoreConfig
) -> dict[str, Any]:
    """Writes the model folder and returns its card, whose `info` says how images must reach the model.

    Raises:
        InputError: `image` decodes at reduced scale, which moves pixels under published weights; or the folder holds
            another model.
    """
    if image.decode != "full":
        raise InputError("Published weights need image.decode full: the reduced-scale decode moves pixels.")
    folder = Store(model_dir)
    parent, _, name = folder.root.rpartition("/")
    info = {"imported": checkpoint.origin, "image": image.model_dump(), "score": score.model_dump()}
    if folder.exists(CARD):
        _, card = read_model(Store(parent), name)
        if card["info"] == info and size_from_dict(card["size"]) == checkpoint.size:
            return card
        raise InputError(f"{folder.root} holds model {card['model_version']} already: give another model_dir.")
    with _writable(folder.root):
        return write_model(Store(parent), name, checkpoint.state, checkpoint.size, pretrained_backbone=True, info=info)


def export_checkpoint(model_dir: str, path: str) -> VADSize:
    """Writes a model folder's weights as upstream's `.pth`, atomically; returns their size.

    The file holds `state_dict`, under upstream's names and in its order, and `meta`, as mmcv writes them.

    Raises:
        InputError: see `read_exportable`.
    """
    state, card = read_exportable(model_dir, path)
    size = size_from_dict(card["size"])
    meta = {"CLASSES": list(AGENT_CLASSES), "preset": size.preset, "model_version": card["model_version"]}
    data = io.BytesIO()
    torch.save({"meta": meta, "state_dict": state}, data)
    folder, _, name = Store(path).root.rpartition("/")
    with _writable(path):
        Store(folder).write_bytes(name, data.getvalue())
    return size


def read_exportable(model_dir: str, path: str) -> tuple[OrderedDict[str, Tensor], dict[str, Any]]:
    """The tensors under upstream's names, in its order, and the model's card.

    Raises:
        InputError: the folder is no model, upstream would compute something else with it, or `path` exists.
    """
    if os.path.exists(Store(path).root):
        raise InputError(f"{path} exists already: give another name.")
    parent, _, name = Store(model_dir).root.rpartition("/")
    state, card = read_model(Store(parent), name)
    size = size_from_dict(card["size"])
    if not size.parity_quirks or size.ego_status:
        raise InputError(
            f"{model_dir} is a {size.preset} that computes what hustvl/VAD does not (parity_quirks off, or "
            "ego_status on): its weights would mean something else there."
        )
    own = _blank_state(size)
    check_keys(own, state, model_dir, f"the {size.preset} that its {CARD} says")
    return OrderedDict((upstream, state[key]) for key, upstream in upstream_names(own).items()), card


def size_changes(size: VADSize) -> dict[str, Any]:
    """Fields in which a size differs from the published one: upstream's configuration must say the same."""
    published = dataclasses.asdict(PRESETS[size.preset])
    return {key: value for key, value in dataclasses.asdict(size).items() if value != published[key]}


@contextmanager
def _writable(path: str) -> Generator[None, None, None]:
    """A full disk, a folder without permission or a file in the way, said in a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}.") from None


def _blank_state(size: VADSize) -> dict[str, Tensor]:
    """Our tensors' names and shapes, without their numbers."""
    with torch.device("meta"):
        return VAD(size, pretrained_backbone=True).state_dict()


def _upstream_tensors(size: VADSize) -> dict[str, Tensor]:
    own = _blank_state(size)
    return {name: own[key] for key, name in upstream_names(own).items()}


def _origin(path: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told = {key: meta[key] for key in ("epoch", "iter", "time") if isinstance(meta.get(key), int | str)}
    return {"file": os.path.basename(path), "sha256": digest, **told}
