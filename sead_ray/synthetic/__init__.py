"""The embedded data set: a driving world written out as a genuine nuScenes v1.0 folder."""

from __future__ import annotations

from sead_ray.synthetic.world import GENERATOR_VERSION, generate_world, world_name

__all__ = ["GENERATOR_VERSION", "generate_world", "world_name"]
