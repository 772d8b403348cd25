"""People on foot: they walk along, look and wait at kerbs, hesitate, cross, and sometimes step out unseen."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.motion import NEVER
from sead_ray.synthetic.yielding import RED, signal_state

PATH_STEP_M = 0.25


@kernel
def place_walkers(walkers, walk):
    for w in range(len(walk.along)):
        position = min(max(walk.along[w] / PATH_STEP_M, 0.0), walkers.paths.shape[1] - 1.001)
        low = int(position)
        share = position - low
        walk.x[w] = walkers.paths[w, low, 0] * (1 - share) + walkers.paths[w, low + 1, 0] * share
        walk.y[w] = walkers.paths[w, low, 1] * (1 - share) + walkers.paths[w, low + 1, 1] * share
        back, ahead = max(low - 1, 0), min(low + 2, walkers.paths.shape[1] - 1)
        dx = walkers.paths[w, ahead, 0] - walkers.paths[w, back, 0]
        dy = walkers.paths[w, ahead, 1] - walkers.paths[w, back, 1]
        if dx * dx + dy * dy > 1e-6:
            walk.heading[w] = np.arctan2(dy, dx)


@kernel
def walk_on(drivers, state, walkers, walk, network, time_s, dt_s):
    """One step of everybody on foot."""
    for w in range(len(walk.along)):
        wish = walkers.speed[w]
        started = state.along[0] >= walkers.cue_m[w] if walkers.cue_m[w] < NEVER else time_s >= walkers.delay_s[w]
        if not started or walk.along[w] >= walkers.length[w] - 0.3:
            wish = 0.0
        elif walkers.pause_m[w] >= 0 and walk.along[w] >= walkers.pause_m[w] and walk.paused_s[w] < walkers.pause_s[w]:
            walk.paused_s[w] += dt_s
            wish = 0.0
        elif walkers.kerbs[w, 0] >= 0 and walk.along[w] <= walkers.kerbs[w, 0] < walk.along[w] + 0.5:
            wish = wish if _may_cross(drivers, state, walkers, network, w, time_s) else 0.0
        if wish > 0 and _touches(drivers, state, walk, w, wish * dt_s):
            wish = 0.0
        change = 2.5 * dt_s if walkers.bold[w] == 0 else 5.0 * dt_s
        walk.moving[w] += min(max(wish - walk.moving[w], -4.0 * dt_s), change)
        walk.along[w] = min(walk.along[w] + walk.moving[w] * dt_s, walkers.length[w])


@kernel
def _touches(drivers, state, walk, w, step_m):
    """Whether the next steps would lead into a vehicle."""
    x = walk.x[w] + (step_m + 0.6) * np.cos(walk.heading[w])
    y = walk.y[w] + (step_m + 0.6) * np.sin(walk.heading[w])
    for i in range(len(state.along)):
        dx, dy = x - state.x[i], y - state.y[i]
        if dx * dx + dy * dy > 14.0**2:
            continue
        cos, sin = np.cos(state.heading[i]), np.sin(state.heading[i])
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        front = 0.5 + 0.35 * state.speed[i]
        if -drivers.size[i, 1] / 2 - 0.5 < ahead < drivers.size[i, 1] / 2 + front and (
            abs(left) < drivers.size[i, 0] / 2 + 0.55
        ):
            return True
    return False


@kernel
def _may_cross(drivers, state, walkers, network, w, time_s):
    """At a signal only while the arm's traffic has red; elsewhere when all who come can still stop."""
    if walkers.bold[w] == 1:
        return True
    number = walkers.crosswalk[w]
    if number >= 0:
        junction, arm = network.arm_of_crosswalk[number, 0], network.arm_of_crosswalk[number, 1]
        if junction >= 0 and network.kinds[junction] == 0:
            for wait in range(0, 6, 2):
                if signal_state(network.groups[junction, arm], network.offsets_s[junction], time_s + wait) != RED:
                    return False
    for i in range(len(state.along)):
        for c in range(drivers.crosswalks.shape[1]):
            gap = drivers.crosswalks[i, c, 0] - 2.2 - state.along[i] - drivers.size[i, 1] / 2
            if gap > 40:
                break
            if int(drivers.crosswalks[i, c, 1]) != number:
                continue
            if -drivers.size[i, 1] - 6 < gap < 0.5:
                return False
            if state.speed[i] > 0.5 and 0.5 <= gap < state.speed[i] ** 2 / 5.0 + 3:
                return False
    return True
