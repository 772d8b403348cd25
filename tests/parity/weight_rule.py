"""Weights without a file: each tensor follows from its upstream key and its shape.

Upstream ran with the same numbers, so that 160 MB of weights need not be kept. The normal draws come from numpy's
PCG64, seeded with the CRC-32 of the key.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

# The last layer of a class branch is scaled up, and its classes are centred: otherwise one class would win everywhere.
CLASS_GAIN = {"cls_branches": 5.0, "map_cls_branches": 5.0, "traj_cls_branches": 2.0}
CLASS_BIAS = {
    "cls_branches.0": (1.2, -0.3, 2.1, -3.9, -3.5, -2.8, -0.3, 0.5, -4.4, -3.8),
    "cls_branches.1": (-2.2, -2.1, -4.5, -4.0, 0.6, -6.8, -1.9, -2.3, -5.3, 1.0),
    "cls_branches.2": (-2.4, -4.9, -2.7, -1.6, -2.0, -1.7, 2.7, 4.1, -4.2, -2.5),
    "map_cls_branches.0": (-2.4, -2.6, 1.0),
    "map_cls_branches.1": (-0.6, -3.7, 3.4),
    "map_cls_branches.2": (2.3, 2.1, -3.9),
}
BOX_CODES, VELOCITY_CODES = 8, 2


def tensor(key: str, shape: tuple[int, ...]) -> Array:
    """The tensor of upstream's `key`: int64 for counters, else float32."""
    parts = key.split(".")
    name, tail = parts[-1], ".".join(parts[-2:])
    if name == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if name == "map_code_weights":
        return np.ones(shape, np.float32)
    if name == "code_weights":
        return np.float32([1.0] * BOX_CODES + [0.2] * VELOCITY_CODES)
    noise = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    if name == "running_mean":
        return (0.1 * noise).astype(np.float32)
    if name == "running_var":
        return (1 + 0.1 * np.abs(noise)).astype(np.float32)
    if tail == "sampling_offsets.bias":
        return (2.0 * noise).astype(np.float32)
    if tail.endswith("reference_points.weight"):
        return (3.0 * noise / np.sqrt(shape[1])).astype(np.float32)
    if "embed" in key or "query" in key:
        return (0.5 * noise).astype(np.float32)
    return _layer(parts, noise).astype(np.float32)


def _layer(parts: list[str], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights and biases of linear, convolution and norm layers."""
    is_class_layer = len(parts) > 3 and parts[-4] in CLASS_GAIN and parts[-2] == "6"
    if parts[-1].endswith("bias"):
        bias = CLASS_BIAS.get(".".join(parts[-4:-2]), 0.0) if is_class_layer else 0.0
        return 0.02 * noise + np.asarray(bias)
    if noise.ndim < 2:
        return 1 + 0.1 * noise
    gain = CLASS_GAIN[parts[-4]] if is_class_layer else 1.0
    return gain * noise / np.sqrt(np.prod(noise.shape[1:]))
