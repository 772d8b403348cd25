"""Driving beside one's route: lane changes (MOBIL, Kesting et al. 2007), and passing what stands or crawls ahead."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.following import free_way, idm, swerve_m
from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.motion import NEVER, beside_route, step_at
from sead_ray.synthetic.network import LANE_M
from sead_ray.synthetic.yielding import next_stop

POLITENESS, GAIN, SAFE_BRAKE = 0.3, 0.7, 2.0  # m/s^2
PATIENCE_S = 6.0
SIDE_AIR_M = 0.65
INSIDE_LANE_M = 0.75  # so far aside a car is still in its lane


@kernel
def choose_goals(drivers, state, network):
    """Each driver's decision on the offset that it steers to; changes `state.goal`."""
    for i in range(len(state.along)):
        k = next_stop(drivers, state, i)
        to_stop = NEVER
        if k >= 0:
            to_stop = drivers.stops[i, k, 0] - state.along[i] - drivers.size[i, 1] / 2
        here = step_at(drivers.points, state.along[i])
        if abs(state.goal[i] - drivers.bias_m[i]) > 0.1:
            _come_back(drivers, state, network, i, to_stop, drivers.inner[i, here] == 0)
        elif drivers.inner[i, here] > 0 and to_stop > 22 and abs(state.side[i] - state.goal[i]) < 0.6:
            _leave_lane(drivers, state, network, i, to_stop, here)


@kernel
def _come_back(drivers, state, network, i, to_stop, must):
    """Back to the own lane once nothing slow is left ahead in it and there is room beside."""
    home = drivers.bias_m[i]
    if not must:
        if not _has_room(drivers, state, network, i, home):
            return
        gap, pace, who = free_way(drivers, state, network, i, home, 26.0)
        slow = who == -2 or (who >= 0 and pace < 0.6 * state.speed[i] + 0.5)
        if slow and gap < 6 + 1.6 * state.speed[i] and to_stop > 30:
            return
    state.goal[i] = home


@kernel
def _leave_lane(drivers, state, network, i, to_stop, here):
    desired = max(drivers.limits[i, here] * drivers.eager[i], 0.5)
    gap, pace, who = free_way(drivers, state, network, i, state.goal[i], 45.0)
    if who == -1:
        return
    if is_in_the_way(drivers, state, who, i) and gap < 9 + 2.6 * state.speed[i]:
        _pass(drivers, state, network, i, gap, pace, who, to_stop)
    elif who >= 0 and to_stop > 55 and state.speed[i] > 2.5:
        for way in range(2):
            beside = drivers.inner[i, here] if way == 0 else drivers.outer[i, here]
            if beside != 1:
                continue
            goal = LANE_M * network.inner_side * (1 if way == 0 else -1) + drivers.bias_m[i]
            if _mobil(drivers, state, network, i, goal, desired, gap, pace):
                state.goal[i] = goal
                return


@kernel
def is_in_the_way(drivers, state, who, i):
    """What nobody waits behind for long: things, those who have stopped on a cue, slow cycles."""
    if who == -1:
        return False
    if who == -2:
        return drivers.skill[i] > 0
    stopped = drivers.cue_mode[who] > 0 and state.waited_s[who] > PATIENCE_S and drivers.cue_factor[who] == 0
    return (stopped and drivers.skill[i] > 0) or (drivers.cycle[who] > 0 and drivers.skill[i] > 1)


@kernel
def _pass(drivers, state, network, i, gap, pace, who, to_stop):
    """Steers to the offset that clears the obstacle, where that way is free for long enough."""
    side, length = _inner_edge(drivers, state, network, i, who)
    goal = network.inner_side * (side + drivers.size[i, 0] / 2 + SIDE_AIR_M)
    relative = max(state.speed[i], 4.5) - pace
    way = gap + length + 2 * drivers.size[i, 1] + 6
    if relative < 1.5 or way / relative * max(state.speed[i], 4.5) > to_stop - 4:
        return
    if abs(goal) > INSIDE_LANE_M:
        here = step_at(drivers.points, state.along[i])
        if drivers.inner[i, here] == 1:
            goal = network.inner_side * max(abs(goal), LANE_M)
        elif abs(goal) > 4.4 or not _oncoming_is_far(drivers, state, i, goal, way / relative + 1.0):
            return
    if _has_room(drivers, state, network, i, goal):
        state.goal[i] = goal


@kernel
def _inner_edge(drivers, state, network, i, who):
    """How far an obstacle reaches towards the road's middle, from the route of driver i, and how long it is."""
    if who >= 0:
        _, left = beside_route(drivers.points, i, state.along[i], state.x[who], state.y[who], 50.0)
        return left * network.inner_side + drivers.size[who, 0] / 2, drivers.size[who, 1]
    edge, first, last = -NEVER, NEVER, -NEVER
    for c in range(len(network.still)):
        dx, dy = network.still[c, 0] - state.x[i], network.still[c, 1] - state.y[i]
        if dx * dx + dy * dy > 60.0**2 or dx * np.cos(state.heading[i]) + dy * np.sin(state.heading[i]) < 0:
            continue
        along, left = beside_route(drivers.points, i, state.along[i], network.still[c, 0], network.still[c, 1], 60.0)
        inward = left * network.inner_side + network.still[c, 2]
        blocks = abs(left) < network.still[c, 2] + drivers.size[i, 0] / 2 + 0.3
        if blocks and along < first + 30:
            edge, first, last = max(edge, inward), min(first, along), max(last, along)
    return (edge, last - first + 2.0) if edge > -NEVER else (0.0, 0.0)


@kernel
def _oncoming_is_far(drivers, state, i, goal, seconds):
    """Nobody comes the other way within the time that passing takes."""
    for j in range(len(state.along)):
        facing = np.cos(state.heading[i] - state.heading[j])
        dx, dy = state.x[j] - state.x[i], state.y[j] - state.y[i]
        ahead = dx * np.cos(state.heading[i]) + dy * np.sin(state.heading[i])
        if j == i or facing > 0.2 or ahead < -2 or dx * dx + dy * dy > 130.0**2:
            continue
        along, left = beside_route(drivers.points, i, state.along[i], state.x[j], state.y[j], 130.0)
        if abs(left - goal) > 2.6 + drivers.size[i, 0] / 2:
            continue
        if along - state.along[i] < seconds * (max(state.speed[i], 4.5) + state.speed[j]) + 8:
            return False
    return True


@kernel
def _has_room(drivers, state, network, i, goal):
    """Nobody is beside the driver on the way to the offset, and whoever comes from behind need not brake hard."""
    low, high = min(goal, state.side[i]) - state.side[i], max(goal, state.side[i]) - state.side[i]
    cos, sin = np.cos(state.heading[i]), np.sin(state.heading[i])
    for j in range(len(state.along)):
        dx, dy = state.x[j] - state.x[i], state.y[j] - state.y[i]
        if j == i or dx * dx + dy * dy > 60.0**2:
            continue
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        wide = (drivers.size[i, 0] + drivers.size[j, 0]) / 2 + 0.4
        if left < low - wide or left > high + wide:
            continue
        halves = (drivers.size[i, 1] + drivers.size[j, 1]) / 2
        if abs(ahead) < halves + 1.0 and (left > 0) == (goal > state.side[i]):
            return False
        if ahead < 0 and np.cos(state.heading[i] - state.heading[j]) > 0.5 and abs(left) > 1.2:
            closing = state.speed[j] - state.speed[i]
            wish = idm(state.speed[j], state.speed[j] + 1, -ahead - halves, closing, 1.0, 1.5, 2.0)
            if wish < -SAFE_BRAKE:
                return False
    return not _still_beside(drivers, state, network, i, low, high)


@kernel
def _still_beside(drivers, state, network, i, low, high):
    cos, sin = np.cos(state.heading[i]), np.sin(state.heading[i])
    reach = drivers.size[i, 1] / 2 + 0.8
    for c in range(len(network.still)):
        dx, dy = network.still[c, 0] - state.x[i], network.still[c, 1] - state.y[i]
        ahead, left = dx * cos + dy * sin, dy * cos - dx * sin
        wide = drivers.size[i, 0] / 2 + network.still[c, 2] + 0.3
        if abs(ahead) < reach + network.still[c, 2] and low - wide < left < high + wide:
            return True
    return False


@kernel
def _mobil(drivers, state, network, i, goal, desired, gap, pace):
    """Whether the other lane gains more than the incentive, and costs nobody behind too much."""
    if not _has_room(drivers, state, network, i, goal):
        return False
    other, other_pace, _ = free_way(drivers, state, network, i, goal, 45.0)
    now = idm(state.speed[i], desired, gap, state.speed[i] - pace, drivers.headway_s[i], 1.6, drivers.brake[i])
    then = idm(state.speed[i], desired, other, state.speed[i] - other_pace, drivers.headway_s[i], 1.6, drivers.brake[i])
    return then - now > GAIN * (1 + POLITENESS)


@kernel
def steer(drivers, state, i, metres, time_s):
    """Moves driver i sideways over the metres that it drives: a critically damped pull towards its goal."""
    if metres <= 0:
        return
    wish = state.goal[i] + 0.07 * np.sin(0.11 * state.along[i] + drivers.phase[i])
    pull = 2.6 / swerve_m(state.speed[i])  # per metre
    bend = pull * pull * (wish - state.side[i]) - 2 * pull * state.slope[i]
    most = min(0.11, 1.6 / max(state.speed[i], 1.0) ** 2)
    state.slope[i] += min(max(bend, -most), most) * metres
    steepest = 0.3 if state.speed[i] > 4 else 0.5
    state.slope[i] = min(max(state.slope[i], -steepest), steepest)
    state.side[i] += state.slope[i] * metres
