"""A checked delivery as labels, and how they differ from those that came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sead_ray.geometry import Pose, invert
from sead_ray.labels.delivery import Asked, DeliveredBox, Delivery
from sead_ray.labels.point_cloud import Points, count_inside
from sead_ray.records import OBJECT_CATEGORIES, Annotation, Clip, Frame, FrameLabels, MapVector

SAME = 1e-6  # metres and quaternion parts
MapReader = Callable[[Clip, Frame], tuple[MapVector, ...]]
PointReader = Callable[[Frame], Points]  # (n, 3) global


@dataclass(frozen=True)
class LabelDiff:
    """Counts of one delivery against what was there.

    Attributes:
        new_frames, changed_frames, same_frames: requested frames that it holds.
        boxes: added, removed, moved, resized, renamed (another class), same.
        classes: boxes of each class that it holds; n_tracks, n_untracked: of them.
        n_context: boxes of context frames, which are not kept.
        missing: requested frames that have no labels after it.
    """

    new_frames: int
    changed_frames: int
    same_frames: int
    boxes: Mapping[str, int]
    classes: Mapping[str, int]
    n_tracks: int
    n_untracked: int
    n_context: int
    missing: tuple[str, ...]

    def describe(self) -> str:
        """A few lines for people."""
        frames = f"Frames: {self.new_frames} new, {self.changed_frames} changed, {self.same_frames} as before."
        kinds = ("added", "removed", "moved", "resized", "renamed", "same")
        boxes = "Boxes: " + ", ".join(f"{self.boxes.get(kind, 0)} {kind}" for kind in kinds) + "."
        classes = ", ".join(f"{count} {name}" for name, count in sorted(self.classes.items())) or "none"
        lines = [frames, boxes, f"Delivered: {classes}; in {self.n_tracks} tracks."]
        if self.n_untracked:
            lines.append(f"{self.n_untracked} boxes belong to no track: they train without velocity and future.")
        if self.n_context:
            lines.append(f"{self.n_context} boxes of context frames are not kept.")
        return "\n".join(lines)


def to_labels(
    delivery: Delivery, asked: Asked, complete: bool, map_reader: MapReader, point_reader: PointReader
) -> dict[str, FrameLabels]:
    """Labels of the requested frames that a delivery holds, by frame token.

    Args:
        complete: requested frames of delivered clips that have no box are empty, not missing.
        map_reader: map vectors of a frame, which come from the map, not from annotators.
        point_reader: a frame's sweep, where the tool counts no returns.
    """
    boxes: dict[str, list[DeliveredBox]] = {}
    for box in delivery.boxes:
        if asked.is_requested(box.frame_token):
            boxes.setdefault(box.frame_token, []).append(box)
    if complete:
        clips = {asked.frames[box.frame_token][0].clip.clip_token for box in delivery.boxes}
        for token in asked.requested:
            if asked.frames[token][0].clip.clip_token in clips:
                boxes.setdefault(token, [])
    found = {}
    for token in sorted(boxes, key=lambda token: asked.frames[token][1].frame.timestamp_us):
        task, item = asked.frames[token]
        found[token] = FrameLabels(
            frame_token=token,
            clip_token=task.clip.clip_token,
            timestamp_us=item.frame.timestamp_us,
            annotations=_annotations(boxes[token], item.frame, point_reader),
            map_vectors=map_reader(task.clip, item.frame),
        )
    return found


def compare(
    delivery: Delivery, asked: Asked, new: Mapping[str, FrameLabels], before: Mapping[str, FrameLabels]
) -> LabelDiff:
    """What `new`, made of `delivery`, changes in the labels `before` it."""
    kinds: Counter[str] = Counter()
    changed = 0
    for token, labels in new.items():
        here = _box_changes(labels, before.get(token))
        kinds += here
        changed += token in before and sum(here.values()) > here["same"]
    kept = [box for box in delivery.boxes if box.frame_token in new]
    known = sum(token in before for token in new)
    return LabelDiff(
        new_frames=len(new) - known,
        changed_frames=changed,
        same_frames=known - changed,
        boxes=kinds,
        classes=Counter(box.category for box in kept),
        n_tracks=len({box.instance for box in kept if box.is_tracked}),
        n_untracked=sum(not box.is_tracked for box in kept),
        n_context=len(delivery.boxes) - len(kept),
        missing=tuple(token for token in asked.requested if token not in new and token not in before),
    )


def _annotations(boxes: list[DeliveredBox], frame: Frame, point_reader: PointReader) -> tuple[Annotation, ...]:
    points = point_reader(frame) if any(box.n_lidar_points is None for box in boxes) else np.zeros((0, 3))
    return tuple(_annotation(box, points) for box in boxes)


def _annotation(box: DeliveredBox, points: Points) -> Annotation:
    x, y, z = map(float, box.translation_m)
    width, length, height = map(float, box.size_wlh_m)
    qw, qx, qy, qz = map(float, box.rotation_wxyz)
    count = box.n_lidar_points
    if count is None:
        count = count_inside(points, invert(Pose((x, y, z), (qw, qx, qy, qz)).matrix), (length, width, height))
    return Annotation(
        instance_token=box.instance,
        category=box.category,
        category_index=OBJECT_CATEGORIES.index(box.category),
        translation_m=(x, y, z),
        size_wlh_m=(width, length, height),
        rotation_wxyz=(qw, qx, qy, qz),
        n_lidar_points=count,
        n_radar_points=box.n_radar_points,
        attribute=box.attribute,
    )


def _box_changes(labels: FrameLabels, before: FrameLabels | None) -> Counter[str]:
    old = {item.instance_token: item for item in before.annotations} if before else {}
    kinds: Counter[str] = Counter()
    for item in labels.annotations:
        kinds[_change(item, old.pop(item.instance_token, None))] += 1
    kinds["removed"] += len(old)
    return kinds


def _change(item: Annotation, old: Annotation | None) -> str:
    if old is None:
        return "added"
    if item.category != old.category:
        return "renamed"
    if not np.allclose(item.size_wlh_m, old.size_wlh_m, atol=SAME):
        return "resized"
    placed = (*item.translation_m, *item.rotation_wxyz)
    return "same" if np.allclose(placed, (*old.translation_m, *old.rotation_wxyz), atol=SAME) else "moved"
