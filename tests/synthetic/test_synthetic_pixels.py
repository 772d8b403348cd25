"""What a table says of a box is what the picture shows at that place."""

from __future__ import annotations

import numpy as np
import pytest

from sead_ray.geometry import invert, transform_points
from sead_ray.synthetic import stage
from sead_ray.synthetic.episode import drive
from sead_ray.synthetic.ground import painted_ground
from sead_ray.synthetic.render import render, view
from sead_ray.synthetic.rig import CAMERAS
from sead_ray.synthetic.scenery import build_scenery
from sead_ray.synthetic.weather import Weather

SIZE = (160, 90)
OVERCAST = Weather(night=False, rain=False, cover=0.9)  # no long shadows
LOCATION = "boston-seaport"


@pytest.fixture(scope="module")
def pictures() -> list:
    """Road users that a camera shows: image, owners, image without it, owners when alone, pixel, actor, grid."""
    scenery, ground = build_scenery(LOCATION, 3), painted_ground(LOCATION, 3)
    out = []
    for scene, scenario in enumerate(("follow", "busy_junction")):
        episode = drive(LOCATION, 3, scene, 8, scenario)
        for number, spec in enumerate(CAMERAS):
            out += _free_actors(episode, float(episode.times_s[3]), number, spec, scenery, ground)
    return out


def _free_actors(episode, time, number, spec, scenery, ground) -> list:
    tracks, pose = episode.tracks, episode.ego_pose(time)
    poses = tracks.poses(time)
    seen = view(number, *SIZE)

    def picture():
        faces = stage.faces_at(tracks, poses, scenery, time, poses[0, :2], facing, OVERCAST)
        return render(seen, ground, faces, pose, OVERCAST, np.random.default_rng(0))

    axis = (pose.matrix @ spec.ego_from_camera.matrix)[:2, 2]
    facing = float(np.arctan2(axis[1], axis[0]))
    image, owners = picture()
    camera_from_global = invert(pose.matrix @ spec.ego_from_camera.matrix)
    out = []
    for actor in range(1, len(tracks.actors)):
        height = tracks.actors[actor].size_wlh_m[2]
        centre = transform_points(camera_from_global, np.array([*poses[actor, :2], height / 2]))
        if tracks.actors[actor].kind not in ("car", "bus") or not 4 < centre[2] < 30:
            continue
        u, v, _ = seen.intrinsics @ centre / centre[2]
        inside = 2 <= u < owners.shape[1] - 2 and 2 <= v < owners.shape[0] - 2
        if inside and (owners == actor).sum() > 60 * seen.finer**2:
            faces = stage.faces_at(tracks, poses, scenery, time, poses[0, :2], facing, OVERCAST)
            _, alone = render(seen, ground, faces.of(actor), pose, OVERCAST, np.random.default_rng(0))
            tracks.actors[actor].shown = False
            without, _ = picture()
            tracks.actors[actor].shown = True
            out.append((image, owners, without, alone, (int(u), int(v)), actor, seen.finer))
    return out


def test_there_is_something_to_see(pictures: list) -> None:
    assert len(pictures) >= 5


def test_box_centres_show_their_road_user(pictures: list) -> None:
    shown = []
    for _, owners, _, alone, (u, v), actor, _ in pictures:
        assert alone[v, u] == actor
        shown.append(owners[v, u] == actor)
    assert np.mean(shown) > 0.5  # in the whole picture somebody nearer may stand before the rest


def test_taking_a_road_user_away_changes_its_pixels_and_no_others(pictures: list) -> None:
    for image, owners, without, _, _, actor, finer in pictures:
        changed = np.abs(image.astype(int) - without.astype(int)).max(axis=-1) > 6
        mine = owners == actor
        covered = mine.reshape(image.shape[0], finer, image.shape[1], finer).any(axis=(1, 3))
        whole = mine.reshape(image.shape[0], finer, image.shape[1], finer).all(axis=(1, 3))
        assert changed[whole].mean() > 0.75
        rows, columns = np.nonzero(covered)
        # Besides the body only the dark patch right below it changes.
        away = np.nonzero(changed & ~covered)
        span = columns.max() - columns.min() + 3
        assert len(away[0]) == 0 or (
            away[1].min() >= columns.min() - span
            and away[1].max() <= columns.max() + span
            and away[0].min() >= rows.min()
        )
