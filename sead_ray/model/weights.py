"""Weights at rest (`weights.safetensors` and `model.json` in a folder), and upstream VAD's names for the tensors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sead_ray.errors import InputError
from sead_ray.model.presets import size_from_dict
from sead_ray.model.vad import VAD
from sead_ray.storage import Store

WEIGHTS, CARD = "weights.safetensors", "model.json"
FORMAT_VERSION = 1

# Our name -> upstream's, rules in order, each applied to what the ones before left.
_HEAD, _TRANSFORMER = "pts_bbox_head.", "pts_bbox_head.transformer."
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
    (r"\.temporal\.", ".attentions.0."),
    (r"\.spatial\.output_proj\.", ".attentions.1.output_proj."),
    (r"\.spatial\.", ".attentions.1.deformable_attention."),
    (r"\.(self_)?attention\.", ".attentions.0.attn."),
    (r"\.cross_attention\.", ".attentions.1."),
    (r"\.ffn\.fc1\.", ".ffns.0.layers.0.0."),
    (r"\.ffn\.fc2\.", ".ffns.0.layers.1."),
)


def upstream_name(key: str) -> str:
    """hustvl/VAD's `state_dict` key of our parameter or buffer `key`."""
    for pattern, replacement in UPSTREAM_NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def load_upstream(model: VAD, state: dict[str, Tensor]) -> None:
    """Loads a `state_dict` with upstream's keys.

    Raises:
        InputError: a key is missing, unknown or of another shape.
    """
    own = model.state_dict()
    names = {key: upstream_name(key) for key in own}
    unknown = sorted(set(state) - set(names.values()))
    if unknown:
        raise InputError(f"The checkpoint holds {unknown[0]!r}, which a {model.size.preset} does not have.")
    for key, name in names.items():
        if name not in state:
            raise InputError(f"The checkpoint has no {name!r}, which a {model.size.preset} needs.")
        if state[name].shape != own[key].shape:
            raise InputError(
                f"{name!r} in the checkpoint has shape {tuple(state[name].shape)}, not {tuple(own[key].shape)}."
            )
    model.load_state_dict({key: state[name] for key, name in names.items()})


def save_model(store: Store, key: str, model: VAD, info: dict[str, Any]) -> dict[str, Any]:
    """Writes `<key>/weights.safetensors`, then `<key>/model.json`; each atomically, and the card last.

    Returns:
        The card: format_version, model_version (first 12 digits of the weights' SHA-256), sha256, size,
        pretrained_backbone, info.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    data = save(state)
    digest = hashlib.sha256(data).hexdigest()
    card = {
        "format_version": FORMAT_VERSION,
        "model_version": digest[:12],
        "sha256": digest,
        "size": json.loads(json.dumps(dataclasses.asdict(model.size))),  # as it will be read
        "pretrained_backbone": model.pretrained_backbone,
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
    card = _read_card(store, f"{key}/{CARD}")
    path = store.path(f"{key}/{WEIGHTS}")
    data = store.read_bytes(f"{key}/{WEIGHTS}")
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise InputError(f"{path} is truncated or altered: its SHA-256 is not the one in {CARD}.")
    try:
        state = load(data)
        model = VAD(size_from_dict(card["size"]), card["pretrained_backbone"])
        model.load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise InputError(f"{path} does not fit the size in its {CARD}: {str(error).splitlines()[0]}") from None
    return model.to(torch.device(device)).eval(), card


def _read_card(store: Store, key: str) -> dict[str, Any]:
    card, path = store.read_json(key), store.path(key)
    kinds = {"format_version": int, "sha256": str, "model_version": str, "size": dict, "pretrained_backbone": bool}
    for name, kind in kinds.items():
        if not isinstance(card, dict) or not isinstance(card.get(name), kind):
            raise InputError(f"{path} is not a model card: it lacks {name!r}.")
    if card["format_version"] > FORMAT_VERSION:
        raise InputError(f"{path} has format {card['format_version']}, newer than {FORMAT_VERSION}; update sead_ray.")
    return card
