"""Settings of the network and of the images that it sees."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sead_ray.config.schema import Schema


class ImageConfig(Schema):
    """How images reach the network."""

    width: int = Field(default=640, ge=32)
    """Width after the resize; the height follows from the image, then zero padding to a multiple of 32."""
    decode: Literal["full", "dct"] = "full"
    """dct: libjpeg's reduced-scale decode where the image allows it; faster, and moves pixels a little."""


class ModelConfig(Schema):
    """Size of VAD. Presets name the published ones; every field can be set on its own."""

    preset: Literal["vad_tiny", "vad_base", "vad_nano"] = "vad_tiny"
    """vad_tiny and vad_base as published; vad_nano: small enough for CPUs and tests."""
    backbone_weights: str | None = None
    """ImageNet weights of the image backbone (.safetensors or .pth); None: start at random with GroupNorm."""
    overrides: dict[str, int | float | bool | str | list[int]] = {}
    """Fields of `sead_ray.model.presets.VADSize` that differ from the preset."""
