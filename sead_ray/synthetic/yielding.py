"""Who goes first: signals, rights of way, gaps in the traffic of a junction, crosswalks."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.motion import NEVER, at_route

GREEN_S, YELLOW_S, CLEAR_S = 9.0, 2.0, 2.0
SLOT_S = GREEN_S + YELLOW_S + CLEAR_S  # each of the two phases
MARGIN_S = 0.9
GREEN, YELLOW, RED = 0, 1, 2


@kernel
def signal_state(group, offset_s, time_s):
    inside = (time_s + offset_s) % (2 * SLOT_S) - SLOT_S * group
    if 0 <= inside < GREEN_S:
        return GREEN
    return YELLOW if GREEN_S <= inside < GREEN_S + YELLOW_S else RED


@kernel
def next_stop(drivers, state, i):
    """Number of the next stop line on the route that the front has not passed by a metre; -1 for none."""
    front = state.along[i] + drivers.size[i, 1] / 2
    for k in range(drivers.stops.shape[1]):
        if drivers.stops[i, k, 0] > front - 1.0:
            return k if drivers.stops[i, k, 0] < NEVER else -1
    return -1


@kernel
def _rank(network, junction, arm, turn):
    """Right of way at a junction; more is first. Turns across the other direction come after it."""
    far = 0.5 if turn == network.inner_side else 0.0
    if network.kinds[junction] == 1 and network.main[junction, arm] == 0:
        return 1.0 - far
    return 2.0 - far


@kernel
def _arrival(distance_m, speed, accelerate):
    """Seconds to cover a distance while speeding up to about 9 m/s."""
    if distance_m <= 0:
        return 0.0
    quick = (-speed + np.sqrt(speed * speed + 2 * accelerate * distance_m)) / accelerate
    return max(quick, distance_m / 9.0)


@kernel
def _clash(drivers, state, network, time_s, i, k, j):
    """Whether driver j bars driver i, who stands before its k-th junction."""
    mine = int(drivers.passages[i, k, 2])
    junction = int(drivers.stops[i, k, 1])
    front, rear = state.along[j] + drivers.size[j, 1] / 2, state.along[j] - drivers.size[j, 1] / 2
    for m in range(drivers.stops.shape[1]):
        if drivers.stops[j, m, 0] >= NEVER or drivers.stops[j, m, 0] - front > 45:
            return False
        if drivers.passages[j, m, 1] < rear or int(drivers.stops[j, m, 1]) != junction:
            continue
        theirs = int(drivers.passages[j, m, 2])
        conflict = network.conflicts[mine, theirs]
        begin = drivers.passages[j, m, 0]
        if conflict[0] < 0 or begin + conflict[3] + 1.0 < rear:
            continue
        entered = front > drivers.stops[j, m, 0] + 1.0
        if not entered and not _has_precedence(drivers, state, network, time_s, i, k, j, m):
            continue
        pace = max(state.speed[j], 4.0 if entered else 2.5)
        enters, leaves = (begin + conflict[2] - front) / pace, (begin + conflict[3] + 1.0 - rear) / pace
        here = state.along[i] + drivers.size[i, 1] / 2
        start = drivers.passages[i, k, 0]
        mine_in = _arrival(start + conflict[0] - here, state.speed[i], 1.4)
        mine_out = _arrival(start + conflict[1] + drivers.size[i, 1] - here, state.speed[i], 1.4)
        return enters < mine_out + MARGIN_S and leaves > mine_in - MARGIN_S
    return False


@kernel
def _has_precedence(drivers, state, network, time_s, i, k, j, m):
    """Between two who are both still before the junction."""
    junction = int(drivers.stops[i, k, 1])
    arm_i, arm_j = int(drivers.stops[i, k, 2]), int(drivers.stops[j, m, 2])
    if network.kinds[junction] == 0:
        group = network.groups[junction, arm_j]
        if signal_state(group, network.offsets_s[junction], time_s) != GREEN:
            return False
    rank_i = _rank(network, junction, arm_i, drivers.passages[i, k, 3])
    rank_j = _rank(network, junction, arm_j, drivers.passages[j, m, 3])
    if state.waited_s[i] > 6.0 and state.speed[j] < 0.5 and state.waited_s[j] < state.waited_s[i]:
        return False  # somebody who stands there lets the one go who has waited long
    if rank_i != rank_j:
        return rank_j > rank_i
    eta_i = (drivers.stops[i, k, 0] - state.along[i]) / max(state.speed[i], 1.5)
    eta_j = (drivers.stops[j, m, 0] - state.along[j]) / max(state.speed[j], 1.5)
    return eta_j < eta_i or (eta_j == eta_i and j < i)


@kernel
def junction_gap(drivers, state, network, time_s, i, free_m, pace):
    """Free metres to the stop line where driver i must stop at it, NEVER where it may go on."""
    k = next_stop(drivers, state, i)
    if k < 0:
        return NEVER
    distance = drivers.stops[i, k, 0] - state.along[i] - drivers.size[i, 1] / 2
    if distance > 60:
        return NEVER
    junction, arm = int(drivers.stops[i, k, 1]), int(drivers.stops[i, k, 2])
    gap = max(distance + 0.6, 0.01)
    needed = state.speed[i] ** 2 / (2 * max(distance, 0.1))
    if network.kinds[junction] == 0:
        shown = signal_state(network.groups[junction, arm], network.offsets_s[junction], time_s)
        if shown != GREEN and (needed < 3.0 or (shown == RED and state.speed[i] < 3)):
            return gap
    if distance > 25 or needed > 4.5:
        return NEVER
    through = drivers.passages[i, k, 1] - state.along[i] + drivers.size[i, 1] / 2
    if pace < 1.0 and free_m < through and free_m > distance:  # no room behind the junction
        return gap
    for j in range(len(state.along)):
        if j != i and _clash(drivers, state, network, time_s, i, k, j):
            return gap
    return NEVER


@kernel
def crosswalk_gap(drivers, state, walkers, walk, network, i):
    """Free metres to the next crosswalk on which somebody walks, or at which somebody waits, towards driver i's way."""
    best = NEVER
    front = state.along[i] + drivers.size[i, 1] / 2
    for c in range(drivers.crosswalks.shape[1]):
        gap = drivers.crosswalks[i, c, 0] - 2.2 - front
        if gap > 50:
            break
        if gap < -1.5 or state.speed[i] ** 2 / (2 * max(gap, 0.1)) > 6.5:
            continue
        px, py = at_route(drivers.points, i, drivers.crosswalks[i, c, 0])
        junction = network.arm_of_crosswalk[int(drivers.crosswalks[i, c, 1]), 0]
        courtesy = drivers.courtesy[i] > 0 and (junction < 0 or network.kinds[junction] != 0)
        for w in range(len(walk.x)):
            if walkers.crosswalk[w] != int(drivers.crosswalks[i, c, 1]):
                continue
            on = walkers.kerbs[w, 0] + 0.3 < walk.along[w] < walkers.kerbs[w, 1]
            at_kerb = courtesy and abs(walk.along[w] - walkers.kerbs[w, 0]) < 1.0 and gap > 8
            dx, dy = walk.x[w] - px, walk.y[w] - py
            away = dx * np.cos(walk.heading[w]) + dy * np.sin(walk.heading[w]) > 0
            if (on or at_kerb) and not (away and dx * dx + dy * dy > 2.6**2):
                best = min(best, max(gap, 0.01))
    return best
