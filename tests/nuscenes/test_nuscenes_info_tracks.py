"""Objects of VAD's infos are followed by where each box says that it goes, over gaps and past one another."""

from __future__ import annotations

import numpy as np
import pytest

from sead_ray.errors import InputError
from sead_ray.geometry import Pose, invert, quaternion_from_heading, transform_points
from sead_ray.nuscenes.info_tracks import FrameBoxes, assign_tracks

# Global x of objects A and B at frames 0 to 3 (y is 1 and 1.005); None: not annotated there.
PATHS = {"A": [0.0, 2.0, None, 6.0], "B": [6.0, 4.0, 2.0, None]}


def frames(paths: dict[str, list[float | None]] = PATHS) -> list[FrameBoxes]:
    out = []
    for t in range(4):
        pose = Pose((1.5 * t, 0.3 * t, 1.8), quaternion_from_heading(0.2 * t)).matrix
        present = [name for name, path in paths.items() if path[t] is not None]
        here = {name: np.array([paths[name][t], 1.0 + 0.005 * (name == "B"), 0.5]) for name in present}
        centers = np.array([transform_points(invert(pose), here[name]) for name in present]).reshape(-1, 3)
        offsets, has_next = np.zeros((len(present), 2)), np.zeros(len(present), bool)
        for index, name in enumerate(present):
            later = [x for x in paths[name][t + 1 :] if x is not None]
            if later:
                there = transform_points(invert(pose), [later[0], here[name][1], 0.5])
                offsets[index], has_next[index] = np.float32((there - centers[index])[:2]), True
        out.append(FrameBoxes(f"frame{t}", pose, centers, ["car"] * len(present), offsets, has_next))
    return out


def test_objects_are_found_again_after_a_gap() -> None:
    assert assign_tracks(frames(), is_whole=True) == [[0, 1], [0, 1], [1], [0]]


def test_another_name_is_another_object() -> None:
    changed = frames()
    changed[1] = FrameBoxes(**{**vars(changed[1]), "names": ["truck", "car"]})
    assert assign_tracks(changed, is_whole=False)[1] == [2, 1]


def test_a_lost_object_is_named_where_the_scene_is_whole() -> None:
    part = frames()[:3]
    assert assign_tracks(part, is_whole=False) == [[0, 1], [0, 1], [1]]
    with pytest.raises(InputError, match=r"car at .* that info frame1 announces"):
        assign_tracks(part, is_whole=True)
