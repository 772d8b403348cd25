"""Lists of tokens: for whoever labels with nuScenes' own tools, and for NAVSIM."""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from sead_ray.labels.sources import Sources
from sead_ray.labels.task import LabelTask
from sead_ray.storage import Store


def export_nuscenes(tasks: Iterable[LabelTask], target: Store, _sources: Sources) -> list[str]:
    """`sample_tokens.json`: the bought samples, nothing else; `samples.json`: a row for each sample of each task, with
    its scene and whether it is context only."""
    rows = [
        {
            "sample_token": item.frame.token,
            "scene_token": task.clip.clip_token,
            "scene_name": task.clip.name,
            "timestamp": item.frame.timestamp_us,
            "is_context": item.is_context,
        }
        for task in tasks
        for item in task.frames
    ]
    target.write_json("sample_tokens.json", [row["sample_token"] for row in rows if not row["is_context"]])
    target.write_json("samples.json", rows)
    return ["sample_tokens.json", "samples.json"]


def export_navsim(tasks: Iterable[LabelTask], target: Store, _sources: Sources) -> list[str]:
    """`scene_filter.yaml`: a NAVSIM `SceneFilter` whose scenes end their history at a bought frame.

    Logs are named by clip. Context is what NAVSIM calls history (which counts the frame itself) and future, the same
    for every scene, and as much as every bought frame has: NAVSIM drops scenes that would leave their log.
    """
    found = list(tasks)
    before = min((_context(task)[0] for task in found), default=0)
    after = min((_context(task)[1] for task in found), default=0)
    content = {
        "_target_": "navsim.common.dataclasses.SceneFilter",
        "_convert_": "all",
        "num_history_frames": before + 1,
        "num_future_frames": after,
        "frame_interval": 1,
        "has_route": False,
        "max_scenes": None,
        "log_names": [task.clip.name for task in found],
        "tokens": [item.frame.token for task in found for item in task.requested],
    }
    target.write_bytes("scene_filter.yaml", yaml.safe_dump(content, sort_keys=False).encode())
    return ["scene_filter.yaml"]


def _context(task: LabelTask) -> tuple[int, int]:
    """Frames of context before the first and behind the last bought frame."""
    bought = [position for position, item in enumerate(task.frames) if not item.is_context]
    return bought[0], len(task.frames) - 1 - bought[-1]
