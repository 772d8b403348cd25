"""Planning with open eyes: the present of the embedded world, driven on by its own rules for three seconds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sead_ray.evaluation.world_present import Present
from sead_ray.records import FUTURE_STEPS
from sead_ray.synthetic.episode import KEY_INTERVAL_S
from sead_ray.synthetic.motion import NEVER, Network, State, WalkState, body_pose, wheelbase
from sead_ray.synthetic.network import Town
from sead_ray.synthetic.simulation import DT_S, run
from sead_ray.synthetic.traffic import driver_arrays, network_arrays, still_circles, walker_arrays
from sead_ray.synthetic.yielding import SLOT_S

Array = NDArray[np.float64]
STEPS = round(FUTURE_STEPS * KEY_INTERVAL_S / DT_S) + 1


def drive_on(present: Present) -> Array:
    """(F, 2) where the ego's centre would be, in global coordinates."""
    driving = [actor for actor in present.actors if actor.route is not None]
    walking = [actor for actor in present.actors if actor.walk is not None]
    drivers, walkers = driver_arrays(driving), walker_arrays(walking)
    state, walk = _first_state(present), _first_walk(present)
    still = still_circles([actor for actor in present.actors if actor.state])
    network = _network(present.town)._replace(offsets_s=present.offsets_s, still=still)
    driven, _ = run(drivers, state, walkers, walk, network, STEPS)
    base = wheelbase(driving[0].size_wlh_m[1])
    out = np.empty((FUTURE_STEPS, 2))
    for step in range(FUTURE_STEPS):
        along, _, _, side, slope = driven[(step + 1) * round(KEY_INTERVAL_S / DT_S), 0]
        out[step] = body_pose(drivers.points, 0, along, side, slope, base)[:2]
    return out


def alone(present: Present) -> Present:
    """The same without anybody else."""
    return replace(
        present,
        actors=present.actors[:1],
        states=present.states[:1],
        goals_m=present.goals_m[:1],
        waited_s=present.waited_s[:1],
        walks=present.walks[:0],
    )


def after_the_signal(present: Present) -> Present:
    """The same, should all signals change now."""
    return replace(present, offsets_s=(present.offsets_s + SLOT_S) % (2 * SLOT_S))


@lru_cache(maxsize=4)
def _network(town: Town) -> Network:
    return network_arrays(town, np.zeros(len(town.junctions)), np.zeros((0, 3)))


def _first_state(present: Present) -> State:
    along, speed, pull, side, slope = (np.ascontiguousarray(column) for column in present.states.T)
    count = len(along)
    nowhere = [np.zeros(count) for _ in range(3)]
    return State(
        along,
        speed,
        pull,
        side,
        slope,
        present.goals_m.copy(),
        present.waited_s.copy(),
        np.full(count, NEVER),
        *nowhere,
    )


def _first_walk(present: Present) -> WalkState:
    count = len(present.walks)
    empty = [np.zeros(count) for _ in range(4)]
    return WalkState(present.walks[:, 0].copy(), *empty, present.walks[:, 1].copy())
