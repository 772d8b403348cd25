"""Where exporters find images and lidar sweeps, and where the tool will find what they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sead_ray.errors import InputError
from sead_ray.labels.point_cloud import Points, read_sweep
from sead_ray.labels.task import TaskFrame
from sead_ray.records import OBJECT_CATEGORIES
from sead_ray.storage import Store

CATEGORIES = OBJECT_CATEGORIES[1:]  # without noise: what a box may be
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)  # nuScenes' own


@dataclass(frozen=True)
class Sources:
    """What exporters read.

    Attributes:
        data: the data root.
        sweeps: key of each frame's lidar sweep below it, by frame token.
        files_at: where the tool will find the exported folder; empty: where it is written.
        images_at: what the tool puts before an image's key; empty: each tool's usual.
    """

    data: Store
    sweeps: Mapping[str, str]
    files_at: str = ""
    images_at: str = ""

    def sweep(self, item: TaskFrame) -> Points:
        """(n, 4) of a frame; `InputError` where the data set has no lidar there."""
        if item.frame.token not in self.sweeps:
            raise InputError(f"Frame {item.frame.token} has no lidar sweep, which this format draws boxes in.")
        return read_sweep(self.data, self.sweeps[item.frame.token])
