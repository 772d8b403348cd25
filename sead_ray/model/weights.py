"""Weights at rest (`weights.safetensors` and `model.json` in a folder), and upstream VAD's names for the tensors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sead_ray.config import ImageConfig
from sead_ray.errors import InputError
from sead_ray.model.keys import check_keys
from sead_ray.model.presets import VADSize, size_from_dict
from sead_ray.model.vad import VAD
from sead_ray.storage import Store

WEIGHTS, CARD = "weights.safetensors", "model.json"
FORMAT_VERSION = 1

# Our name -> upstream's, rules in order, each applied to what the ones before left.
_HEAD, _TRANSFORMER = "pts_bbox_head.", "pts_bbox_head.transformer."
_LAYER = r"^(pts_bbox_head\..*layers\.\d+\.)"
UPSTREAM_NAMES: tuple[tuple[str, str], ...] = (
    (r"^backbone\.", "img_backbone."),
    (r"^neck\.", "img_neck."),
    (r"^(map_)?code_weights", _HEAD + r"\g<0>"),
    (r"^encoder\.(row_embed|col_embed)\.", _HEAD + r"positional_encoding.\1."),
    (r"^encoder\.bev_embedding\.", _HEAD + "bev_embedding."),
    (r"^encoder\.layers\.", _TRANSFORMER + "encoder.layers."),
    (r"^encoder\.", _TRANSFORMER),
    (r"^agents\.layers\.", _TRANSFORMER + "decoder.layers."),
    (r"^agents\.reference_points\.", _TRANSFORMER + "reference_points."),
    (r"^agents\.", _HEAD),
    (r"^maps\.layers\.", _TRANSFORMER + "map_decoder.layers."),
    (r"^maps\.reference_points\.", _TRANSFORMER + "map_reference_points."),
    (r"^maps\.point_embedding\.", _HEAD + "map_pts_embedding."),
    (r"^maps\.", _HEAD + "map_"),
    (r"^motion\.mode_query\.", _HEAD + "motion_mode_query."),
    (r"^motion\.agent_layer\.", _HEAD + "motion_decoder.layers.0."),
    (r"^motion\.map_layer\.", _HEAD + "motion_map_decoder.layers.0."),
    (r"^motion\.agent_pos\.", _HEAD + "pos_mlp_sa."),
    (r"^motion\.map_pos\.", _HEAD + "pos_mlp."),
    (r"^motion\.lane_encoder\.layers\.(\d+)\.", _HEAD + r"lane_encoder.layer_seq.lmlp_\1.mlp."),
    (r"^motion\.", _HEAD),
    (r"^planner\.agent_layer\.", _HEAD + "ego_agent_decoder.layers.0."),
    (r"^planner\.map_layer\.", _HEAD + "ego_map_decoder.layers.0."),
    (r"^planner\.(agent|map)_pos\.", _HEAD + r"ego_\1_pos_mlp."),
    (r"^planner\.agent_fusion\.", _HEAD + "agent_fus_mlp."),
    (r"^planner\.path_branch\.", _HEAD + "ego_fut_decoder."),
    (r"^planner\.", _HEAD),
    # Within the head's layers; an image network of the user's own keeps its names.
    (_LAYER + r"temporal\.", r"\1attentions.0."),
    (_LAYER + r"spatial\.output_proj\.", r"\1attentions.1.output_proj."),
    (_LAYER + r"spatial\.", r"\1attentions.1.deformable_attention."),
    (_LAYER + r"(?:self_)?attention\.", r"\1attentions.0.attn."),
    (_LAYER + r"cross_attention\.", r"\1attentions.1."),
    (_LAYER + r"ffn\.fc1\.", r"\1ffns.0.layers.0.0."),
    (_LAYER + r"ffn\.fc2\.", r"\1ffns.0.layers.1."),
)

# Upstream's order of registration, by the beginnings of its names; within one, our order is the same.
UPSTREAM_ORDER: tuple[str, ...] = (
    *(_HEAD + part for part in ("code_weights", "map_code_weights", "positional_encoding.")),
    *(_TRANSFORMER + part for part in ("level_embeds", "cams_embeds", "encoder.", "decoder.", "map_decoder.")),
    *(_TRANSFORMER + part for part in ("reference_points.", "map_reference_points.", "can_bus_mlp.")),
    *(_HEAD + part for part in ("cls_branches.", "reg_branches.", "traj_branches.", "traj_cls_branches.")),
    *(_HEAD + part for part in ("map_cls_branches.", "map_reg_branches.", "bev_embedding.", "query_embedding.")),
    *(_HEAD + part for part in ("map_instance_embedding.", "map_pts_embedding.", "motion_decoder.")),
    *(_HEAD + part for part in ("motion_mode_query.", "pos_mlp_sa.", "lane_encoder.", "motion_map_decoder.")),
    *(_HEAD + part for part in ("pos_mlp.", "ego_query.", "ego_agent_decoder.", "ego_agent_pos_mlp.")),
    *(_HEAD + part for part in ("ego_map_decoder.", "ego_map_pos_mlp.", "ego_fut_decoder.", "agent_fus_mlp.")),
    "img_backbone.",
    "img_neck.",
)


def upstream_name(key: str) -> str:
    """hustvl/VAD's `state_dict` key of our parameter or buffer `key`."""
    for pattern, replacement in UPSTREAM_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def upstream_names(own: Iterable[str]) -> dict[str, str]:
    """Our name -> upstream's, in the order of upstream's `state_dict`; `own` in the order of ours."""

    def place(names: tuple[str, str]) -> int:  # sorting is stable
        return next((i for i, start in enumerate(UPSTREAM_ORDER) if names[1].startswith(start)), len(UPSTREAM_ORDER))

    return dict(sorted(((key, upstream_name(key)) for key in own), key=place))


def load_upstream(model: VAD, state: Mapping[str, Tensor]) -> None:
    """Loads a `state_dict` with upstream's keys.

    Raises:
        InputError: keys are missing, unknown or of another shape; names all of them.
    """
    own = model.state_dict()
    names = upstream_names(own)
    check_keys({name: own[key] for key, name in names.items()}, state, "The checkpoint", f"a {model.size.preset}")
    model.load_state_dict({key: state[name] for key, name in names.items()})


def save_model(store: Store, key: str, model: VAD, info: dict[str, Any]) -> dict[str, Any]:
    """Writes the model as `write_model` does, and returns its card."""
    if not model.has_preset_network:
        raise InputError("A model card cannot describe an image network of one's own: save its state_dict instead.")
    return write_model(store, key, model.state_dict(), model.size, model.pretrained_backbone, info)


def write_model(
    store: Store, key: str, state: Mapping[str, Tensor], size: VADSize, pretrained_backbone: bool, info: dict[str, Any]
) -> dict[str, Any]:
    """Writes `<key>/weights.safetensors`, then `<key>/model.json`; each atomically, and the card last.

    Returns:
        The card: format_version, model_version (first 12 digits of the weights' SHA-256), sha256, size,
        pretrained_backbone, info.
    """
    data = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
    digest = hashlib.sha256(data).hexdigest()
    card = {
        "format_version": FORMAT_VERSION,
        "model_version": digest[:12],
        "sha256": digest,
        "size": json.loads(json.dumps(dataclasses.asdict(size))),  # as it will be read
        "pretrained_backbone": pretrained_backbone,
        "info": info,
    }
    store.write_bytes(f"{key}/{WEIGHTS}", data)
    store.write_json(f"{key}/{CARD}", card)
    return card


def load_model(store: Store, key: str, device: str = "cpu") -> tuple[VAD, dict[str, Any]]:
    """The model in eval mode, and its card as `save_model` returned it.

    Raises:
        InputError: a file is missing, damaged or of a newer format.
    """
    state, card = read_model(store, key)
    try:
        model = VAD(size_from_dict(card["size"]), card["pretrained_backbone"])
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise _misfit(store, key, error) from None
    return model.to(torch.device(device)).eval(), card


def require_images_as_trained(card: dict[str, Any], image: ImageConfig, path: str) -> None:
    """Refuses to show a model images that are decoded or sized otherwise than those it was trained on.

    A reduced-scale decode moves pixels, up to 43 of 255. A card that does not say how was trained elsewhere: full.

    Raises:
        InputError: names the model at `path` and the setting.
    """
    trained = {"decode": "full", **(card.get("info") or {}).get("image", {})}
    for key in ("decode", "width"):
        if trained.get(key, getattr(image, key)) != getattr(image, key):
            raise InputError(
                f"The model {path} was trained on images with image.{key}={trained[key]}, not "
                f"{getattr(image, key)}: set image.{key}={trained[key]}."
            )


def read_model(store: Store, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors as they are stored, under our names, and the card.

    Raises:
        InputError: a file is missing, damaged or of a newer format.
    """
    card = read_card(store, f"{key}/{CARD}")
    data = store.read_bytes(f"{key}/{WEIGHTS}")
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise InputError(
            f"{store.path(f'{key}/{WEIGHTS}')} is truncated or altered: its SHA-256 is not the one in {CARD}."
        )
    try:
        return load(data), card
    except SafetensorError as error:
        raise _misfit(store, key, error) from None


def _misfit(store: Store, key: str, error: Exception) -> InputError:
    path = store.path(f"{key}/{WEIGHTS}")
    return InputError(f"{path} does not fit the size in its {CARD}: {str(error).splitlines()[0]}")


def read_card(store: Store, key: str) -> dict[str, Any]:
    """The card at `key`, checked; `InputError` where it is none."""
    card, path = store.read_json(key), store.path(key)
    kinds = {"format_version": int, "sha256": str, "model_version": str, "size": dict, "pretrained_backbone": bool}
    for name, kind in kinds.items():
        if not isinstance(card, dict) or not isinstance(card.get(name), kind):
            raise InputError(f"{path} is not a model card: it lacks {name!r}.")
    if card["format_version"] > FORMAT_VERSION:
        raise InputError(f"{path} has format {card['format_version']}, newer than {FORMAT_VERSION}; update sead_ray.")
    return card
