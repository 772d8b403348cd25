"""All kernels compiled before a world is generated: each once on a machine, by whichever process comes to it first.

Compiling takes half a minute of one core, and no process can go on before it is done. So processes that start together
share it: each takes the next part that nobody is at. Code that others have compiled is loaded from numba's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numba import float64, int64, typeof

from sead_ray.geometry import Pose
from sead_ray.synthetic import passing, simulation, stage, walking
from sead_ray.synthetic.actors import Actor, Walk, make_ego
from sead_ray.synthetic.ground import painted_ground
from sead_ray.synthetic.kernels import cache_folder, once_a_machine, refresh_kernels
from sead_ray.synthetic.occlusion import hidden_shares
from sead_ray.synthetic.render import render, view
from sead_ray.synthetic.routes import plan_route
from sead_ray.synthetic.scenery import build_scenery
from sead_ray.synthetic.town import LOCATIONS, build_town
from sead_ray.synthetic.traffic import Signals, Tracks, simulation_arguments
from sead_ray.synthetic.weather import Weather

Part = tuple[str, Callable[[], None]]


@lru_cache(maxsize=2)
def compile_kernels(pictures: bool = True) -> None:
    """Returns when the kernels are compiled; at once in a process that has called it, soon where the cache has them.

    Args:
        pictures: the renderer's too, not only the simulation's.
    """
    refresh_kernels()
    if cache_folder() is None:
        return  # each process compiles what it calls
    first: list[Part] = [("goals", _goals), ("wishes", _wishes), ("steps", _steps)]
    if pictures:
        first.append(("pictures", _pictures))
    for parts in (first, [("run", _run)]):
        elsewhere = [part for part in parts if not once_a_machine(*part, wait=False)]
        for part in elsewhere:  # whoever was at it may have died
            once_a_machine(*part, wait=True)


@lru_cache(maxsize=1)
def _actors() -> tuple[Actor, ...]:
    town, rng = build_town(LOCATIONS[0], 0), np.random.default_rng(0)
    route = plan_route(town, 0, 60.0, rng)
    ego, person = make_ego(route, 10.0, rng), Actor("pedestrian", (0.7, 0.7, 1.7), (90, 90, 90))
    person.walk = Walk(route.points[:40] + 8.0, 1.2)
    return ego, person


def _types() -> tuple:
    """numba's types of drivers, state, walkers, walk, network."""
    town = build_town(LOCATIONS[0], 0)
    arguments = simulation_arguments(town, list(_actors()), np.zeros(len(town.junctions)))
    return tuple(typeof(argument) for argument in arguments)


def _goals() -> None:
    drivers, state, _, _, network = _types()
    passing.choose_goals.compile((drivers, state, network))


def _wishes() -> None:
    drivers, state, walkers, walk, network = _types()
    simulation.wish.compile((drivers, state, walkers, walk, network, int64, float64))


def _steps() -> None:
    drivers, state, walkers, walk, network = _types()
    walking.walk_on.compile((drivers, state, walkers, walk, network, float64, float64))
    simulation.move.compile((drivers, state, int64, float64, float64))
    hidden_shares(np.zeros((2, 4)), np.ones((2, 3)), np.ones(2, bool))


def _run() -> None:
    simulation.run.compile((*_types(), int64))


def _pictures() -> None:
    """Draws a picture of a town in which nobody moves."""
    town, actors = build_town(LOCATIONS[0], 0), list(_actors()[:1])
    assert actors[0].route is not None
    signals = Signals(tuple(junction.groups for junction in town.junctions), np.zeros(len(town.junctions)))
    points = actors[0].route.points[None]
    still = (np.zeros((3, 1, 5)), np.zeros((3, 0, 4)), points, np.array([2.7]), np.zeros((1, 3)))
    tracks = Tracks(actors, signals, [0], [], *still)
    weather = Weather(night=True, rain=True, cover=0.5)
    poses = tracks.poses(0.1)
    faces = stage.faces_at(tracks, poses, build_scenery(LOCATIONS[0], 0), 0.1, poses[0, :2], 0.0, weather)
    pose = Pose((*poses[0, :2].tolist(), 0.0), (1.0, 0.0, 0.0, 0.0))
    pools = (np.zeros((1, 4, 3), np.float32), np.ones(1, np.uint8))
    faces = replace(faces, patches=pools, pools=pools)
    render(view(0, 64, 36), painted_ground(LOCATIONS[0], 0), faces, pose, weather, np.random.default_rng(0))
