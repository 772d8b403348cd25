"""What a training worker trains on: the bought frames with their labels."""

from __future__ import annotations

import pyarrow.compute as pc

from sead_ray.config import RunConfig
from sead_ray.nuscenes.dataset import DrivingDataset
from sead_ray.nuscenes.images import image_geometry
from sead_ray.records import Clip
from sead_ray.schemas import CLIP_SCHEMA
from sead_ray.stages import layout
from sead_ray.stages.label_store import read_labels
from sead_ray.storage import Store


def load_dataset(
    run: Store, config: RunConfig, bought: dict[str, list[int]], seed: int, encoded: bool = False
) -> DrivingDataset:
    """The bought frames with their labels; whole clips are read, since history frames need no label.

    Args:
        encoded: images stay files, for a GPU to decode.
    """
    tokens = sorted(token for token, frames in bought.items() if frames)
    rows = run.iter_rows(layout.CLIPS_FILE, CLIP_SCHEMA, where=pc.field("clip_token").isin(tokens))
    clips = [Clip.from_row(row) for row in rows]
    if config.train.targets == "as_paper":
        wanted = {frame.token for clip in clips for frame in clip.frames}
    else:
        wanted = {clip.frames[index].token for clip in clips for index in bought[clip.clip_token]}
    labels = read_labels(run, config, wanted, set(tokens))
    return DrivingDataset(
        clips=clips,
        bought=bought,
        labels=labels,
        data_root=config.data.root,
        image=config.image,
        queue_length=config.train.queue_length,
        targets=config.train.targets,
        seed=seed,
        cache_frames=_cache_frames(clips, config),
        encoded=encoded,
    )


def _cache_frames(clips: list[Clip], config: RunConfig) -> int:
    geometry = image_geometry(clips[0].frames[0], config.image)
    frame_bytes = len(clips[0].frames[0].cameras) * geometry.padded_height * geometry.width * 3
    return int(config.train.cache_gib * 2**30 / frame_bytes)
