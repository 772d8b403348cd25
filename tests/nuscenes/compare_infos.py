"""Compares a frame with an info of VAD's format, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

# Left out: the paths of scans and sweeps (no lidar is read here), and what `vad_info` says that it makes otherwise.
NOT_OURS = {"lidar_path", "sweeps", "sample_data_token"}
ANGLES = {"gt_agent_fut_yaw"}  # equal up to whole turns


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Field → largest absolute difference, or the two values where they are no numbers and differ."""
    found: dict[str, Any] = {}
    for name, expected in theirs.items():
        path = f"{where}{name}"
        if name in NOT_OURS:
            continue
        value = ours[name]
        if isinstance(expected, Mapping):
            found |= differences(value, expected, f"{path}.")
        elif name == "data_path":
            found[path] = 0.0 if expected.endswith(value) else (value, expected)
        elif name == "can_bus":  # [0:7] and [16:18] are filled in when VAD reads the file
            found[path] = _largest(value[7:16], expected[7:16])
        elif name == "gt_agent_lcf_feat":  # [8] counts by another category table
            found[path] = _largest(value[:, :8], np.asarray(expected)[:, :8])
        elif np.asarray(expected).dtype.kind in "US":
            found[path] = 0.0 if np.array_equal(value, expected) else (value, expected)
        else:
            found[path] = _largest(value, expected, name in ANGLES)
    return found


def _largest(value: Any, expected: Any, is_angle: bool = False) -> float:
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    assert value.shape == expected.shape, (value.shape, expected.shape)
    assert np.array_equal(np.isnan(value), np.isnan(expected))
    apart = np.nan_to_num(value - expected)
    if is_angle:
        apart = (apart + np.pi) % (2 * np.pi) - np.pi
    return float(np.abs(apart).max(initial=0.0))


def worst(all_differences: list[dict[str, Any]]) -> dict[str, float]:
    """Field → largest over many frames; anything that is no number counts as infinite."""
    out: dict[str, float] = {}
    for found in all_differences:
        for name, value in found.items():
            out[name] = max(out.get(name, 0.0), value if isinstance(value, float) else np.inf)
    return out
