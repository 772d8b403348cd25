"""FiftyOne: an image dataset that `fiftyone.Dataset.from_dir(folder, fiftyone.types.FiftyOneDataset)` reads.

Written as JSON alone (FiftyOne calls that its legacy layout, and converts it on import): the newer one is a dump of its
database. `dataset.group_by("frame_token")` shows the six images of a frame together.
"""

from __future__ import annotations

from collections.abc import Iterable

from sead_ray.labels.sources import Sources
from sead_ray.labels.task import LabelTask
from sead_ray.storage import Store


def export_fiftyone(tasks: Iterable[LabelTask], target: Store, sources: Sources) -> list[str]:
    """`metadata.json`, and `samples.json`: one sample an image, tagged label or context."""
    base = sources.images_at or f"{sources.data.root}/"
    samples = [
        {
            "filepath": base + camera.key,
            "tags": ["context" if item.is_context else "label"],
            "frame_token": item.frame.token,
            "clip_token": task.clip.clip_token,
            "clip_name": task.clip.name,
            "frame_index": item.index,
            "timestamp_us": item.frame.timestamp_us,
            "camera": camera.name,
        }
        for task in tasks
        for item in task.frames
        for camera in item.frame.cameras
    ]
    target.write_json("samples.json", {"samples": samples})
    target.write_json("metadata.json", {"media_type": "image", "info": {"source": "sead_ray label request"}})
    return ["metadata.json", "samples.json"]
