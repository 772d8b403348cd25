"""The formats that a label request goes out in."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sead_ray.labels.sources import Sources
from sead_ray.labels.task import LabelTask
from sead_ray.labels.to_cvat import export_cvat
from sead_ray.labels.to_fiftyone import export_fiftyone
from sead_ray.labels.to_ground_truth import export_ground_truth
from sead_ray.labels.to_label_studio import export_label_studio
from sead_ray.labels.to_lists import export_navsim, export_nuscenes
from sead_ray.storage import Store

# Each writes its files below the folder and returns their keys.
EXPORTERS: dict[str, Callable[[Iterable[LabelTask], Store, Sources], list[str]]] = {
    "nuscenes": export_nuscenes,
    "cvat": export_cvat,
    "label_studio": export_label_studio,
    "ground_truth": export_ground_truth,
    "navsim": export_navsim,
    "fiftyone": export_fiftyone,
}
NEEDS_SWEEPS = {"cvat", "ground_truth"}
