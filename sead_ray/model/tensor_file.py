"""Files of tensors that others made. A pickle goes through torch's weights-only loader, which runs no code of it."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sead_ray.errors import InputError

BESIDE = ("meta", "optimizer")  # what mmcv and mmengine write beside the weights
_GLOBAL = re.compile(r"(?:GLOBAL|[Cc]lass|[Tt]ype|[Ff]unction)\s+(?:<class ')?([A-Za-z_][\w.]*\.[\w.]+)")


@dataclass(frozen=True)
class TensorFile:
    """Tensors by name, without the wrappings `state_dict` and `module.`; `meta` as the file has it, else empty."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def read_tensor_file(path: str) -> TensorFile:
    """A .safetensors, or anything that `torch.save` wrote of tensors and plain containers.

    Raises:
        InputError: the file is missing, damaged, no file of named tensors, or holds code or objects, none of which
            is executed.
    """
    if not os.path.exists(path):
        raise InputError(f"{path} does not exist.")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a checkpoint file.")
    if not os.path.getsize(path):
        raise InputError(f"{path} is empty.")
    content = _read_safetensors(path) if path.endswith(".safetensors") else _read_pickle(path)
    return _unwrap(path, content)


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file: {str(error).splitlines()[0]}.") from None


def _read_pickle(path: str) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # of pickle protocols, on stderr
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except Exception as error:  # the loader has no common class for what hostile bytes make it raise
        raise InputError(_complaint(path, str(error))) from None


def _complaint(path: str, message: str) -> str:
    # Only the loader's own complaint; what surrounds it is advice to trust the file.
    told = message.partition("WeightsUnpickler error:")[2]
    if found := _GLOBAL.search(told):
        return (
            f"{path} holds {found[1]}, which is code or an object and no tensor: nothing of it was executed; "
            "save the weights alone (a `state_dict` of tensors)."
        )
    with open(path, "rb") as file:
        head = file.read(4)
    if (head[:2] == b"PK" and "central directory" in message) or "unexpected EOF" in message:
        return f"{path} is truncated: it begins like a PyTorch checkpoint, but its end is missing."
    if "TorchScript" in message:
        return f"{path} is a TorchScript program, which would have to be executed; save its `state_dict` instead."
    if told:
        return f"{path} is a pickle, but no checkpoint of tensors; nothing of it was executed."
    return f"{path} is not a PyTorch checkpoint, or it is damaged."


def _numpy_scalars() -> list[Any]:
    """What rebuilds a plain number of numpy, as mmcv's `meta` may hold (a best score, a seed); it calls nothing."""
    rebuild = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2
    return [*((rebuild, name) for name in names), np.dtype, *kinds]


def _unwrap(path: str, content: Any) -> TensorFile:
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not tensors by name.")
    meta = content.get("meta")
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise InputError(f"{path}: its state_dict is a {type(state).__name__}, not tensors by name.")
    if state is content:
        state = {name: value for name, value in state.items() if name not in BESIDE or isinstance(value, Tensor)}
    others = [repr(name) for name, value in state.items() if not (isinstance(name, str) and _is_plain(value))]
    if others:
        raise InputError(f"{path} holds more than named tensors: {', '.join(others)}.")
    if not state:
        raise InputError(f"{path} holds no tensor.")
    if all(name.startswith("module.") for name in state):  # saved through DistributedDataParallel
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return TensorFile(dict(state), dict(meta) if isinstance(meta, Mapping) else {})


def _is_plain(value: Any) -> bool:
    """A dense tensor with its numbers (not sparse, quantised, nested or on the meta device)."""
    if not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not value.is_quantized and not value.is_nested and not value.is_meta
