"""Prints what free data say of clips, straight from a nuScenes folder: light, weather, behaviour, commands, Acc and Yaw
from the CAN messages and from the ego poses beside each other, and how well constant velocity plans.

With --clip one scene is printed as JSON, every key frame in the layout of VAD's info files; --boxes adds its
annotations and map vectors. With --quarantined the clips that the run at run_dir leaves out are listed, with the reason
of each.
"""

from __future__ import annotations

from jobs.cli import run_job
from sead_ray.config import RunConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.stages.inspect import chosen_scenes, clip_json, clip_table
from sead_ray.stages.quarantine import quarantine_table
from sead_ray.storage import Store


class InspectConfig(RunConfig):
    clip: str = ""
    """Scene name or token: one clip as JSON; empty: a table of pool and val."""
    boxes: bool = False
    """With `clip`: annotated boxes, their futures, and map vectors of its frames too."""
    quarantined: bool = False
    """The clips in `quarantine.json` of `run_dir` instead; the data root is not read."""


def plan(config: InspectConfig) -> str:
    if config.quarantined:
        return f"Would list the quarantined clips of {config.run_dir}."
    scenes = chosen_scenes(NuScenesFolder(config.data), config.clip)
    return f"Would print {len(scenes)} clip(s) of {config.data.root}."


def job(config: InspectConfig) -> str:
    if config.quarantined:
        return quarantine_table(Store(config.run_dir))
    folder = NuScenesFolder(config.data)
    scenes = chosen_scenes(folder, config.clip)
    if config.clip:
        return clip_json(folder, *scenes[0], with_labels=config.boxes)
    return clip_table(folder, scenes)


if __name__ == "__main__":
    run_job(__doc__, job, plan, schema=InspectConfig, prog="python -m jobs.inspect_clips")
