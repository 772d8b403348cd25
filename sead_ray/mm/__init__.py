"""The mmdet3d bridge. Importing it registers `VAD` in mmdet3d's `MODELS`, which is all that it does:

custom_imports = dict(imports=["sead_ray.mm"])
model = dict(type="VAD", preset="vad_tiny", img_backbone=dict(type="mmdet.ResNet", ...), img_neck=dict(...))
"""

from __future__ import annotations

from sead_ray.model.backbone import install_ops_placeholder

install_ops_placeholder()  # before mmdet3d comes in, which asks for mmcv's compiled operations

from sead_ray.mm.boxes import lidar_boxes, vad_boxes  # noqa: E402
from sead_ray.mm.detector import VADDetector  # noqa: E402
from sead_ray.mm.samples import pack_sample  # noqa: E402

__all__ = ["VADDetector", "lidar_boxes", "pack_sample", "vad_boxes"]
