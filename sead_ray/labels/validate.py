"""Whether a delivery can be believed: every row is checked, and one that cannot is named with its reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from sead_ray.labels.delivery import Asked, DeliveredBox, Delivery, Fault
from sead_ray.labels.sources import ATTRIBUTES, CATEGORIES
from sead_ray.records import FrameLabels

MIN_SIDE_M = 0.03
MAX_SIDE_M = 35.0  # an articulated bus, a crane
SMALL_M = {"human.": 4.0, "vehicle.bicycle": 4.0, "vehicle.motorcycle": 5.0, "movable_object.trafficcone": 3.0}
CAR_M = 12.0
MAX_RANGE_M = 250.0  # from the ego: further off, a box is in another frame than the global one
MAX_SPEED_MPS = 70.0
MAX_WALKING_MPS = 12.0
SAME_PLACE_M = 0.1


def find_faults(delivery: Delivery, asked: Asked, earlier: Mapping[str, FrameLabels]) -> list[Fault]:
    """Everything that is wrong, in the delivery's order.

    Args:
        earlier: labels that came before, by frame token, of frames that this delivery leaves alone: tracks go on in
            them.
    """
    faults = [*delivery.faults, *_time_faults(delivery, asked)]
    sound = []
    for box in delivery.boxes:
        reason = _box_fault(box, asked)
        if reason:
            faults.append(Fault(box.row, reason))
        else:
            sound.append(box)
    return [*faults, *_duplicates(sound), *_track_faults(sound, asked, earlier)]


def _box_fault(box: DeliveredBox, asked: Asked) -> str:
    if box.frame_token not in asked.frames:
        return f"is of sample {box.frame_token}, which was not asked for."
    if box.category not in CATEGORIES:
        return f"has the unknown class {box.category!r}."
    for name, values, length in (
        ("translation", box.translation_m, 3),
        ("size", box.size_wlh_m, 3),
        ("rotation", box.rotation_wxyz, 4),
    ):
        if not _is_vector(values, length):
            return f"has a {name} that is not {length} finite numbers: {list(values)}."
    limit = _limit_m(box.category)
    if min(box.size_wlh_m) < MIN_SIDE_M or max(box.size_wlh_m) > limit:
        return f"has the size {list(box.size_wlh_m)} m: sides of a {box.category} are {MIN_SIDE_M:g} to {limit:g} m."
    if abs(np.linalg.norm(box.rotation_wxyz) - 1) > 0.005:
        return f"has a rotation that is not a unit quaternion: {list(box.rotation_wxyz)}."
    _, item = asked.frames[box.frame_token]
    away_m = float(np.hypot(*np.subtract(box.translation_m, item.frame.global_from_ego.translation_m)[:2]))
    if away_m > MAX_RANGE_M:
        return f"lies {away_m:.0f} m from the ego: boxes must be in the global frame."
    if box.attribute and box.attribute not in ATTRIBUTES:
        return f"has the unknown attribute {box.attribute!r}."
    return ""


def _is_vector(values: tuple[float, ...], length: int) -> bool:
    return len(values) == length and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value) for value in values
    )


def _limit_m(category: str) -> float:
    small = next((limit for start, limit in SMALL_M.items() if category.startswith(start)), None)
    return small or (CAR_M if category == "vehicle.car" else MAX_SIDE_M)


def _time_faults(delivery: Delivery, asked: Asked) -> Iterator[Fault]:
    for token, time_us in delivery.times_us.items():
        if token in asked.frames and time_us != (expected := asked.frames[token][1].frame.timestamp_us):
            yield Fault(f"sample {token}", f"has the time stamp {time_us}, but was recorded at {expected}.")


def _duplicates(boxes: list[DeliveredBox]) -> Iterator[Fault]:
    """The same object twice in a frame: by its track, or by a box of the same class in the same place."""
    by_frame: dict[str, list[DeliveredBox]] = defaultdict(list)
    for box in boxes:
        for other in by_frame[box.frame_token]:
            if other.instance == box.instance:
                yield Fault(box.row, f"is of the same instance {box.instance} as {other.row} of the same frame.")
                break
            apart_m = float(np.linalg.norm(np.subtract(box.translation_m, other.translation_m)))
            if other.category == box.category and apart_m < SAME_PLACE_M:
                yield Fault(box.row, f"is a second {box.category} in the place of {other.row}.")
                break
        by_frame[box.frame_token].append(box)


def _track_faults(boxes: list[DeliveredBox], asked: Asked, earlier: Mapping[str, FrameLabels]) -> Iterator[Fault]:
    for track in _tracks([*_known(earlier), *boxes], asked).values():
        for before, box in pairwise(track):
            task, item = asked.frames[box.frame_token]
            other_task, other = asked.frames[before.frame_token]
            if task.clip.clip_token != other_task.clip.clip_token:
                yield Fault(box.row, f"is of instance {box.instance}, which {before.row} has in another clip.")
                break
            if box.category != before.category:
                yield Fault(
                    box.row,
                    f"says that instance {box.instance} is a {box.category}; {before.row}: a {before.category}.",
                )
                break
            elapsed_s = 1e-6 * (item.frame.timestamp_us - other.frame.timestamp_us)
            moved_m = float(np.hypot(*np.subtract(box.translation_m, before.translation_m)[:2]))
            limit = MAX_WALKING_MPS if box.category.startswith("human.") else MAX_SPEED_MPS
            if elapsed_s > 0 and moved_m / elapsed_s > limit:
                yield Fault(
                    box.row,
                    f"jumps: instance {box.instance} moved {moved_m:.1f} m in {elapsed_s:.1f} s since {before.row}.",
                )
                break
    for box in boxes:
        yield from _link_faults(box, asked)


def _link_faults(box: DeliveredBox, asked: Asked) -> Iterator[Fault]:
    """`prev` and `next` stay in the track, and go where time goes."""
    now_us = asked.frames[box.frame_token][1].frame.timestamp_us
    for way, token, instance in box.links:
        if instance != box.instance:
            yield Fault(box.row, f"names as {way} an annotation of another instance, {instance}.")
        elif token in asked.frames:
            then_us = asked.frames[token][1].frame.timestamp_us
            if (then_us <= now_us) if way == "next" else (then_us >= now_us):
                yield Fault(box.row, f"names as {way} an annotation of sample {token}, which is not {_AFTER[way]} it.")


_AFTER = {"next": "after", "prev": "before"}


def _tracks(boxes: list[DeliveredBox], asked: Asked) -> dict[str, list[DeliveredBox]]:
    """The boxes of each instance by time."""
    tracks: dict[str, list[DeliveredBox]] = defaultdict(list)
    for box in sorted(boxes, key=lambda item: asked.frames[item.frame_token][1].frame.timestamp_us):
        tracks[box.instance].append(box)
    return tracks


def _known(earlier: Mapping[str, FrameLabels]) -> Iterator[DeliveredBox]:
    for token, labels in earlier.items():
        for item in labels.annotations:
            row = f"the box of frame {token} that was delivered before"
            yield DeliveredBox(
                row, token, item.instance_token, item.category, item.translation_m, item.size_wlh_m, item.rotation_wxyz
            )
