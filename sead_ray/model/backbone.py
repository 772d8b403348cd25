"""The image network: mmdet's ResNet and FPN, built through mmdet3d's registry. The only model file that knows mm*.

mmcv's compiled operations are not needed by them, but importing mmdet asks for them. Where they are missing (the
pure Python `mmcv-lite`), a placeholder module takes their place whose functions raise when they are called.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sead_ray.errors import InputError
from sead_ray.model.folding import fold_resnet
from sead_ray.model.keys import check_keys
from sead_ray.model.presets import VADSize
from sead_ray.model.tensor_file import read_tensor_file

OPS_MODULE = "mmcv._ext"


def build_image_network(size: VADSize, pretrained: bool) -> tuple[nn.Module, nn.Module]:
    """(backbone, neck). backbone(images (N, 3, H, W)) gives the stages of `size.backbone_out`; neck those levels.

    With `pretrained`, stem and first stage are frozen and batch norm stays in eval mode without gradients (VAD);
    the weights themselves are loaded by `load_backbone_weights`. Without, everything trains.
    """
    registry = _registry()
    bottleneck = 1 if size.backbone_depth < 50 else 4
    stages = max(size.backbone_out) + 1
    norm: dict[str, Any] = {"type": "BN", "requires_grad": not pretrained}
    if size.norm == "GN":
        groups = min(32, max(1, size.backbone_channels // 2))
        norm = {"type": "GN", "num_groups": groups, "requires_grad": True}
    backbone = registry.build(
        {
            "type": "mmdet.ResNet",
            "depth": size.backbone_depth,
            "base_channels": size.backbone_channels,
            "num_stages": stages,
            "strides": (1, 2, 2, 2)[:stages],
            "dilations": (1, 1, 1, 1)[:stages],
            "out_indices": size.backbone_out,
            "frozen_stages": 1 if pretrained else -1,
            "norm_cfg": norm,
            "norm_eval": pretrained,
            "style": "pytorch",
        }
    )
    neck = registry.build(
        {
            "type": "mmdet.FPN",
            "in_channels": [size.backbone_channels * bottleneck * 2**stage for stage in size.backbone_out],
            "out_channels": size.embed_dims,
            "start_level": 0,
            "add_extra_convs": "on_output",
            "num_outs": size.feature_levels,
            "relu_before_extra_convs": True,
        }
    )
    _init(backbone, neck)
    fold_resnet(backbone)
    return backbone, neck


def load_backbone_weights(backbone: nn.Module, path: str) -> None:
    """Loads ImageNet weights of the same ResNet (.safetensors, or a .pth of tensors only) with torchvision's names.

    The classifier and stages that are not built are left out; old files lack `num_batches_tracked`.

    Raises:
        InputError: the file is missing, unreadable or holds another network; names the keys.
    """
    try:
        state = read_tensor_file(path).tensors
    except InputError as error:
        raise InputError(f"model.backbone_weights: {error}") from None
    own = backbone.state_dict()
    given = {key.removeprefix("backbone."): value for key, value in state.items()}
    stages = {key.partition(".")[0] for key in own if key.startswith("layer")}
    given = {key: value for key, value in given.items() if not _is_left_out(key, stages)}
    needed = {key: value for key, value in own.items() if key in given or not key.endswith("num_batches_tracked")}
    check_keys(needed, given, f"model.backbone_weights: {path}", "this ResNet")
    backbone.load_state_dict({**own, **given})


def _is_left_out(key: str, stages: set[str]) -> bool:
    stage = key.partition(".")[0]
    return stage in ("fc", "head") or (stage.startswith("layer") and stage not in stages)


def _init(backbone: nn.Module, neck: nn.Module) -> None:
    """mmdet's initialisation (Kaiming; the last norm of a block starts at 0; Xavier in the FPN), without its log."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        last = getattr(module, "norm3", None) if hasattr(module, "conv3") else getattr(module, "norm2", None)
        if isinstance(last, nn.Module) and isinstance(last.weight, Tensor):
            nn.init.zeros_(last.weight)
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _registry() -> Any:
    """mmdet3d's model registry, filled; types are named with their scope, so no global default scope is needed."""
    with _quiet(), _without("transformers"):
        install_ops_placeholder()
        importlib.import_module("mmdet3d.models")
        importlib.import_module("mmdet.models")
        return importlib.import_module("mmdet3d.registry").MODELS


def install_ops_placeholder() -> None:
    """Puts a module whose functions raise in the place of mmcv's compiled operations, only where they are missing."""
    if OPS_MODULE in sys.modules or importlib.util.find_spec(OPS_MODULE) is not None:
        return
    module = types.ModuleType(OPS_MODULE, "Placeholder for mmcv's compiled operations.")
    module.__spec__ = importlib.machinery.ModuleSpec(OPS_MODULE, None)
    module.__getattr__ = _missing_op  # type: ignore[method-assign]
    sys.modules[OPS_MODULE] = module


def _missing_op(name: str) -> Callable[..., Any]:
    if name.startswith("__"):
        raise AttributeError(name)

    def op(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError(f"mmcv's compiled operation {name!r} is not installed here (mmcv-lite); install full mmcv.")

    op.__name__ = name
    return op


@contextmanager
def _without(package: str) -> Generator[None, None, None]:
    """Hides an optional package from the imports within, unless it is imported already.

    mmengine tries `transformers` for one optimiser that nothing here uses; where it is installed, that costs every
    process 10 s.
    """
    hidden = package not in sys.modules
    if hidden:
        sys.modules[package] = None  # ty: ignore[invalid-assignment]  # Python's own mark for "cannot be imported"
    try:
        yield
    finally:
        if hidden:
            del sys.modules[package]


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """Silences the import-time warnings and log lines of the mm packages."""
    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(level)
