"""Generates the embedded driving world as a nuScenes folder at data.root, in parallel; a stopped one goes on.

Short options: --scenes N, --frames T (key frames a scene, 2 a second), --size WIDTHxHEIGHT, --seed S and --out FOLDER
stand for world.scenes, world.frames, world.image_width and image_height, world.seed, and data.root.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from jobs.cli import EXIT_BAD_INPUT, run_job
from sead_ray.config import RunConfig
from sead_ray.errors import InputError
from sead_ray.stages.world import generate
from sead_ray.synthetic import world_name

SHORT = {
    "--scenes": ("world.scenes",),
    "--frames": ("world.frames",),
    "--seed": ("world.seed",),
    "--out": ("data.root",),
    "--size": ("world.image_width", "world.image_height"),
}


def spelled_out(argv: Sequence[str]) -> list[str]:
    """The short options as keys of the configuration.

    Raises:
        InputError: a size that is not WIDTHxHEIGHT.
    """
    out: list[str] = []
    items = iter(argv)
    for item in items:
        option, equals, value = item.partition("=")
        keys = SHORT.get(option)
        if keys is None:
            out.append(item)
            continue
        value = value if equals else next(items, "")
        size = re.fullmatch(r"(\d+)[xX](\d+)", value) if len(keys) == 2 else None
        if len(keys) == 2 and size is None:
            raise InputError(f"--size must be WIDTHxHEIGHT, such as 400x225 (got {value!r}).")
        values = size.groups() if size else (value,)
        for key, one in zip(keys, values):
            out += [f"--{key}", one]
    return out


def plan(config: RunConfig) -> str:
    world = config.world
    images = world.scenes * world.frames * 6
    size = f"{world.image_width}x{world.image_height}"
    scenes = f"{world.scenes} scenes x {world.frames} frames"
    return f"{world_name(world)}: {scenes}, {images} images of {size}, seed {world.seed}, at {config.data.root}"


def job(config: RunConfig) -> str:
    generate(config.world, config.data.root)
    return f"World: {config.data.root} ({world_name(config.world)})"


if __name__ == "__main__":
    try:
        arguments = spelled_out(sys.argv[1:])
    except InputError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    run_job(__doc__, job, plan, argv=arguments, prog="python -m jobs.generate_world")
