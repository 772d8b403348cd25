"""Map vectors against the devkit's own geometry, and what the loss makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from nuscenes.map_expansion.map_api import NuScenesMap

from sead_ray.config import RunConfig
from sead_ray.nuscenes.clips import NuScenesFolder
from sead_ray.nuscenes.map_targets import equivalent_orders
from sead_ray.records import MAP_CLASSES, MapVector
from tests.nuscenes.devkit_map import devkit_lines


@pytest.fixture(scope="module")
def folder(tiny_config: RunConfig) -> NuScenesFolder:
    return NuScenesFolder(tiny_config.data)


def lines_of(vectors: tuple[MapVector, ...], map_class: int) -> shapely.Geometry:
    return shapely.union_all([shapely.linestrings(v.points_m) for v in vectors if v.map_class == map_class])


def test_vectors_cover_what_the_devkit_draws(folder: NuScenesFolder) -> None:
    lengths = np.zeros(len(MAP_CLASSES))
    for token in folder.scenes("train")[:4]:
        clip = folder.clip(token, "pool")
        api = NuScenesMap(dataroot=folder.data.root, map_name=clip.location)
        for labels, pose in zip(folder.labels(token)[::3], clip.global_from_lidar[::3]):
            for map_class, expected in enumerate(devkit_lines(api, pose)):
                ours = lines_of(labels.map_vectors, map_class)
                assert ours.is_empty == expected.is_empty
                if not ours.is_empty:
                    # a line over another counts twice in neither
                    assert shapely.hausdorff_distance(ours, expected, densify=0.01) < 1e-3
                lengths[map_class] += ours.length
    assert (lengths > 10).all()


def test_equivalent_orders_are_the_same_line(folder: NuScenesFolder) -> None:
    for labels in folder.labels(folder.scenes("train")[0])[:2]:
        for vector in labels.map_vectors:
            orders = equivalent_orders(vector.points_m)
            closed = np.array_equal(vector.points_m[0], vector.points_m[-1])
            assert len(orders) == (len(vector.points_m) - 1 if closed else 2)
            line = shapely.linestrings(vector.points_m)
            off_m = shapely.distance(line, shapely.points(orders.reshape(-1, 2)))
            assert off_m.max() < 0.21  # held inside the patch, 0.2 m short of a crossing's margin
            steps = np.linalg.norm(np.diff(orders[0], axis=0), axis=1)
            assert steps.max() <= line.length / 19 + 1e-6
