"""A detector's `state_dict` under hustvl/VAD's names, both ways, through the one renaming table of `model.weights`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from sead_ray.model.weights import upstream_names

# Where the detector keeps what `model.vad.VAD` calls backbone, neck, and nothing for the rest.
_PARTS = (("img_backbone.", "backbone."), ("img_neck.", "neck."), ("pts_bbox_head.", ""))


def name_as_upstream(detector: nn.Module) -> None:
    """Makes `state_dict` give, and `load_state_dict` take, upstream's names; mmengine's Runner goes through both."""
    detector.register_state_dict_post_hook(_to_upstream)
    detector.register_load_state_dict_pre_hook(_from_upstream)


def _names(keys: Iterable[str]) -> dict[str, str]:
    """The detector's own key -> upstream's, in upstream's order; other keys are left out."""
    own = {ours + key.removeprefix(part): key for key in keys for part, ours in _PARTS if key.startswith(part)}
    return {own[ours]: name for ours, name in upstream_names(own).items()}


def _to_upstream(_detector: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: Any) -> None:
    keys = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
    renamed = {prefix + name: state.pop(prefix + key) for key, name in _names(keys).items()}
    state.update(renamed)


def _from_upstream(detector: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    keys = [f"{part}.{key}" for part, module in detector.named_children() for key in module.state_dict(keep_vars=True)]
    found = {key: state.pop(prefix + name) for key, name in _names(keys).items() if prefix + name in state}
    state.update({prefix + key: value for key, value in found.items()})
