"""The state of a running simulation as plain arrays, and where on its route a driver stands.

Drivers move along their routes (`along`, m) and beside them (`side`, m, positive to the left; `slope` is its change per
metre). Everything here is compiled by numba: a scene of thirty drivers takes some hundredths of a second.

Shape legend: D drivers, W walkers, R route points in steps of STEP_M, K junctions on a route, C crosswalks on it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.routes import STEP_M

Array = Any  # numpy arrays; numba knows their types
CIRCLES = 5  # that stand for one vehicle
NEVER = 1e9


class Drivers(NamedTuple):
    """What drivers are. Rows of routes are padded with their last point, lists of stops with NEVER.

    `cue_mode`: 0 none, 1 slows down to `cue_factor` of its wish for `cue_s` once the ego has come to `cue_m`, 2 stands
    until the ego has come there. `skill`: 1 passes what stands in its lane, 2 also slow cycles.
    """

    points: Array  # (D, R, 2)
    headings: Array  # (D, R)
    limits: Array  # (D, R) m/s
    inner: Array  # (D, R)
    outer: Array  # (D, R)
    stops: Array  # (D, K, 3)
    passages: Array  # (D, K, 4)
    crosswalks: Array  # (D, C, 2)
    size: Array  # (D, 2) width, length
    eager: Array  # (D,) factor on speed limits
    headway_s: Array
    accelerate: Array  # (D,) m/s^2
    brake: Array  # (D,) comfortable, m/s^2
    bias_m: Array  # (D,) where in its lane it likes to drive
    phase: Array  # (D,) of its unsteadiness
    courtesy: Array  # (D,) 1: stops for people who wait at a crosswalk
    cycle: Array  # (D,) 1: a bicycle, which others may pass
    skill: Array
    cue_m: Array
    cue_s: Array
    cue_mode: Array
    cue_factor: Array


class State(NamedTuple):
    """What changes. `goal`: the offset beside the route that a driver steers to; `cued_s`: when its cue came."""

    along: Array
    speed: Array
    acceleration: Array
    side: Array
    slope: Array
    goal: Array
    waited_s: Array
    cued_s: Array
    x: Array
    y: Array
    heading: Array


class Walkers(NamedTuple):
    """People on foot. `paths`: (W, P, 2) in steps of 0.25 m; kerbs: where on it they step down and up again, or -1.

    `crosswalk` -1: no crosswalk there. `cue_m`: they start when the ego has come that far (NEVER: at `delay_s`).
    `bold` 1: does not look before crossing.
    """

    paths: Array
    length: Array
    speed: Array
    delay_s: Array
    cue_m: Array
    kerbs: Array  # (W, 2)
    crosswalk: Array
    bold: Array
    pause_m: Array
    pause_s: Array


class WalkState(NamedTuple):
    along: Array
    paused_s: Array
    x: Array
    y: Array
    heading: Array
    moving: Array  # (W,) m/s


class Network(NamedTuple):
    """Junctions (kind 0 signal, 1 priority, 2 roundabout) and what conflicts; `inner_side` +1: the road's middle is
    to the left (right-hand traffic). `still`: (n, 3) circles x, y, radius of what does not move."""

    kinds: Array
    groups: Array
    main: Array
    offsets_s: Array
    conflicts: Array
    junction_of: Array  # of connectors
    arm_of_crosswalk: Array  # (crosswalks, 2) junction and arm, -1 between junctions
    inner_side: float
    still: Array


@kernel
def at_route(points, row, along_m):
    """x, y on a route."""
    position = min(max(along_m / STEP_M, 0.0), points.shape[1] - 1.001)
    low = int(position)
    share = position - low
    x = points[row, low, 0] * (1 - share) + points[row, low + 1, 0] * share
    y = points[row, low, 1] * (1 - share) + points[row, low + 1, 1] * share
    return x, y


@kernel
def step_at(points, along_m):
    return min(max(int(along_m / STEP_M), 0), points.shape[1] - 1)


@kernel
def body_pose(points, row, along_m, side_m, slope, wheelbase_m):
    """Centre and heading of a body whose axles run on the route, moved sideways."""
    xr, yr = at_route(points, row, along_m - wheelbase_m / 2)
    xf, yf = at_route(points, row, along_m + wheelbase_m / 2)
    yaw = np.arctan2(yf - yr, xf - xr)
    x, y = (xr + xf) / 2 - side_m * np.sin(yaw), (yr + yf) / 2 + side_m * np.cos(yaw)
    return x, y, yaw + np.arctan(slope)


@kernel
def beside_route(points, row, along_m, x, y, reach_m):
    """Distance along the route and to its left of a point, searched from `along_m` on over `reach_m`."""
    best, at = 1e18, 0
    first, last = step_at(points, along_m), step_at(points, along_m + reach_m)
    for k in range(first, last + 1):
        away = (points[row, k, 0] - x) ** 2 + (points[row, k, 1] - y) ** 2
        if away < best:
            best, at = away, k
    ahead = min(at + 1, points.shape[1] - 1)
    back = max(ahead - 2, 0)
    tx, ty = points[row, ahead, 0] - points[row, back, 0], points[row, ahead, 1] - points[row, back, 1]
    norm = max((tx * tx + ty * ty) ** 0.5, 1e-9)
    left = (tx * (y - points[row, at, 1]) - ty * (x - points[row, at, 0])) / norm
    return at * STEP_M, left


@kernel
def wheelbase(length_m):
    return 0.58 * length_m


@kernel
def place_all(drivers, state):
    """Refreshes x, y, heading from the distances."""
    for i in range(len(state.along)):
        x, y, yaw = body_pose(
            drivers.points, i, state.along[i], state.side[i], state.slope[i], wheelbase(drivers.size[i, 1])
        )
        state.x[i], state.y[i], state.heading[i] = x, y, yaw
