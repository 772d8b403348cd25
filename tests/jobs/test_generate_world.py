"""The short options of jobs.generate_world."""

from __future__ import annotations

import pytest

from jobs.cli import parse
from jobs.generate_world import plan, spelled_out
from sead_ray.errors import InputError


def test_short_options_are_keys_of_the_configuration() -> None:
    arguments = ["--scenes", "100", "--frames=20", "--size", "400x225", "--seed", "3", "--out", "here", "--dry-run"]
    config, dry_run = parse("", spelled_out(arguments))
    assert dry_run
    world = config.world
    assert (world.scenes, world.frames, world.image_width, world.image_height, world.seed) == (100, 20, 400, 225, 3)
    assert config.data.root == "here"
    assert config.seed == 0  # of a run, not of the world
    assert "sead-ray-world-v3-100x20-400x225-seed3" in plan(config)


@pytest.mark.parametrize("size", ["400", "400x", "x225", "wide", "400x225x3"])
def test_a_size_that_is_none_is_named(size: str) -> None:
    with pytest.raises(InputError, match="WIDTHxHEIGHT"):
        spelled_out(["--size", size])
