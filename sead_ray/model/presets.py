"""Sizes of VAD: the two published ones and a small one, and how a `ModelConfig` picks and changes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sead_ray.config import ModelConfig
from sead_ray.errors import InputError
from sead_ray.records import AGENT_CLASSES, FUTURE_STEPS, MAP_CLASSES, MAP_POINTS


@dataclass(frozen=True)
class VADSize:
    """Every number that shapes the network. Defaults: VAD-Tiny, configs of hustvl/VAD.

    Attributes:
        pc_range: x, y, z minimum and maximum, metres, lidar frame.
        backbone_out: ResNet stages (0-3) that feed the FPN; later ones are not built.
        feature_levels: FPN outputs; more than `backbone_out` has: extra strided convolutions on the last.
        level_embed_rows: rows of the level embedding (upstream always has 4).
        norm: of the backbone; BN with ImageNet weights, GN without.
        rotate_center: x, y pixel about which the previous BEV is rotated; empty: the grid's centre. VAD-Tiny
            inherits Base's (100, 100), which is the corner of its own grid.
        parity_quirks: repeat upstream's oddities: the current frame's reference is shifted too, CAN values go in
            raw, the ego stands at the corner of the normalised frame, an instance's nearest point is the one
            nearest to that corner.
        ego_status: add the scaled CAN vector to the ego query (upstream: no).
        map_threshold: score above which a map instance takes part in motion. (Upstream's threshold for the ego's
            attention is 0, which keeps every query.)
        map_distance: reach of an agent's map attention, in units of the normalised BEV.
    """

    preset: str = "vad_tiny"
    embed_dims: int = 256
    ffn_dims: int = 512
    heads: int = 8
    dropout: float = 0.1
    bev_h: int = 100
    bev_w: int = 100
    pc_range: tuple[float, ...] = (-15.0, -30.0, -2.0, 15.0, 30.0, 2.0)
    num_cameras: int = 6
    pillar_points: int = 4
    backbone_depth: int = 50
    backbone_channels: int = 64
    backbone_out: tuple[int, ...] = (3,)
    feature_levels: int = 1
    level_embed_rows: int = 4
    norm: str = "BN"
    encoder_layers: int = 3
    decoder_layers: int = 3
    temporal_points: int = 4
    spatial_points: int = 8
    decoder_points: int = 4
    agent_queries: int = 300
    agent_classes: int = len(AGENT_CLASSES)
    map_instances: int = 100
    map_points: int = MAP_POINTS
    map_classes: int = len(MAP_CLASSES)
    modes: int = 6
    future_steps: int = FUTURE_STEPS
    commands: int = 3
    map_threshold: float = 0.5
    map_distance: float = 0.2
    can_bus_dims: int = 18
    lane_layers: int = 3
    rotate_center: tuple[int, ...] = (100, 100)
    parity_quirks: bool = True
    ego_status: bool = False

    def __post_init__(self) -> None:
        if self.embed_dims % (2 * self.heads):
            raise InputError(f"model embed_dims {self.embed_dims} must be a multiple of twice heads ({self.heads}).")
        if self.spatial_points % self.pillar_points:
            raise InputError(
                f"model spatial_points {self.spatial_points} must be a multiple of pillar_points "
                f"({self.pillar_points})."
            )
        if self.norm not in ("BN", "GN"):
            raise InputError(f"model norm is {self.norm!r}; it must be BN or GN.")
        if self.feature_levels > self.level_embed_rows:
            raise InputError(
                f"model level_embed_rows {self.level_embed_rows} must not be below feature_levels "
                f"({self.feature_levels})."
            )

    @property
    def bev_cells(self) -> int:
        return self.bev_h * self.bev_w

    @property
    def extent_m(self) -> tuple[float, float]:
        """Length of the BEV in x and y."""
        return self.pc_range[3] - self.pc_range[0], self.pc_range[4] - self.pc_range[1]


PRESETS: dict[str, VADSize] = {
    "vad_tiny": VADSize(),
    "vad_base": VADSize(
        preset="vad_base",
        bev_h=200,
        bev_w=200,
        backbone_out=(1, 2, 3),
        feature_levels=4,
        encoder_layers=6,
        decoder_layers=6,
    ),
    # Trains on two cores: strides 8 and 16 of a narrow ResNet-18, 1.2 m cells; without upstream's oddities.
    "vad_nano": VADSize(
        preset="vad_nano",
        embed_dims=96,
        ffn_dims=192,
        heads=4,
        dropout=0.0,
        bev_h=50,
        bev_w=25,
        backbone_depth=18,
        backbone_channels=32,
        backbone_out=(1, 2),
        feature_levels=2,
        level_embed_rows=2,
        norm="GN",
        encoder_layers=2,
        decoder_layers=2,
        spatial_points=4,
        agent_queries=60,
        map_instances=30,
        rotate_center=(),
        parity_quirks=False,
        ego_status=True,
    ),
}


def resolve(config: ModelConfig) -> VADSize:
    """The preset with the configuration's overrides.

    Without ImageNet weights the backbone gets GroupNorm, unless `norm` is set.

    Raises:
        InputError: an override that `VADSize` does not have, or of the wrong type.
    """
    return sized(config.preset, config.overrides, norm="BN" if config.backbone_weights else "GN")


def sized(preset: str, overrides: Mapping[str, Any], **defaults: Any) -> VADSize:
    """The preset with `defaults` in place of its own fields, and `overrides` in place of both.

    Raises:
        InputError: no such preset or field, or a value of the wrong type.
    """
    if preset not in PRESETS:
        raise InputError(f"model.preset is {preset!r}; it must be one of {', '.join(PRESETS)}.")
    size = PRESETS[preset]
    checked = {key: _checked(key, value, size) for key, value in overrides.items()}
    return dataclasses.replace(size, **{**defaults, **checked})


def size_from_dict(fields: dict[str, Any]) -> VADSize:
    """Inverse of `dataclasses.asdict` after a trip through JSON."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return VADSize(**values)


def _checked(key: str, value: Any, size: VADSize) -> Any:
    if key not in {field.name for field in dataclasses.fields(size)} or key == "preset":
        raise InputError(f"model.overrides: {key!r} is not a field of the model size.")
    kind = type(getattr(size, key))
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InputError(f"model.overrides: {key!r} must be of type {kind.__name__}, not {value!r}.")
    return value
