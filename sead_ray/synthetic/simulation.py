"""The simulation loop: everybody decides, then everybody moves, in steps of DT_S."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.following import HARDEST_BRAKE, free_way, idm, people_ahead
from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.motion import NEVER, place_all, step_at
from sead_ray.synthetic.passing import choose_goals, is_in_the_way, steer
from sead_ray.synthetic.walking import place_walkers, walk_on
from sead_ray.synthetic.yielding import crosswalk_gap, junction_gap

DT_S = 0.1
DECIDE_EVERY = 4  # steps between decisions on the lateral offset
LOOK_M = 48.0
JERK_MPS3 = 6.0
ROOM_TO_PASS_M = 4.5  # kept from what has to be driven around


@kernel
def run(drivers, state, walkers, walk, network, steps):
    """Returns (steps, D, 5) along, speed, acceleration, side, slope, and (steps, W, 4) x, y, heading, speed."""
    driven = np.zeros((steps, len(state.along), 5))
    walked = np.zeros((steps, len(walk.along), 4))
    wishes = np.zeros(len(state.along))
    for step in range(steps):  # in one function: each level of calls compiles all below it once more
        time_s = step * DT_S
        place_all(drivers, state)
        place_walkers(walkers, walk)
        _record(state, walk, driven[step], walked[step])
        if step % DECIDE_EVERY == 0:
            choose_goals(drivers, state, network)
        for i in range(len(wishes)):
            wishes[i] = wish(drivers, state, walkers, walk, network, i, time_s)
        walk_on(drivers, state, walkers, walk, network, time_s, DT_S)
        for i in range(len(wishes)):
            move(drivers, state, i, wishes[i], time_s)
    return driven, walked


@kernel
def _record(state, walk, driven, walked):
    for i in range(len(state.along)):
        driven[i, 0], driven[i, 1], driven[i, 2] = state.along[i], state.speed[i], state.acceleration[i]
        driven[i, 3], driven[i, 4] = state.side[i], state.slope[i]
    for w in range(len(walk.along)):
        walked[w, 0], walked[w, 1] = walk.x[w], walk.y[w]
        walked[w, 2], walked[w, 3] = walk.heading[w], walk.moving[w]


@kernel
def wish(drivers, state, walkers, walk, network, i, time_s):
    """Acceleration that driver i wants: the least of what road, leaders, people, signals and its cue ask for."""
    speed, brake = state.speed[i], drivers.brake[i]
    limit = drivers.limits[i, step_at(drivers.points, state.along[i] + 0.5 + 0.45 * speed)]
    steadiness = (
        1 + 0.035 * np.sin(0.45 * time_s + drivers.phase[i]) + 0.02 * np.sin(1.1 * time_s + 2 * drivers.phase[i])
    )
    desired = max(limit * drivers.eager[i] * steadiness, 0.5)
    if drivers.cue_mode[i] > 0 and state.cued_s[i] >= NEVER and state.along[0] >= drivers.cue_m[i]:
        state.cued_s[i] = time_s
    if drivers.cue_mode[i] == 2 and state.cued_s[i] >= NEVER:
        return -HARDEST_BRAKE
    if drivers.cue_mode[i] == 1 and state.cued_s[i] <= time_s < state.cued_s[i] + drivers.cue_s[i]:
        desired = max(desired * drivers.cue_factor[i], 0.01)
        if speed > desired:
            brake = 4.5 if drivers.cue_factor[i] == 0 else brake
            if drivers.cue_factor[i] == 0:
                return -brake
    free, pace, who = free_way(drivers, state, network, i, state.goal[i], LOOK_M)
    if is_in_the_way(drivers, state, who, i) and pace < 0.3:
        free -= ROOM_TO_PASS_M
    pull = idm(speed, desired, free, speed - pace, drivers.headway_s[i], drivers.accelerate[i], brake)
    people = people_ahead(drivers, state, walk, i, 32.0)
    stops = min(junction_gap(drivers, state, network, time_s, i, free, pace), people)
    stops = min(stops, crosswalk_gap(drivers, state, walkers, walk, network, i))
    if stops < NEVER:
        pull = min(pull, idm(speed, desired, stops, speed, 0.8, drivers.accelerate[i], brake))
    return pull


@kernel
def move(drivers, state, i, wished, time_s):
    speed = state.speed[i]
    # feet are quick in an emergency and slow otherwise
    low = -HARDEST_BRAKE if wished < -3.5 else -NEVER
    low = max(low, state.acceleration[i] - (18.0 if wished < -3.5 else JERK_MPS3) * DT_S)
    pull = min(max(wished, low), state.acceleration[i] + 0.6 * JERK_MPS3 * DT_S)
    pull = max(min(pull, drivers.accelerate[i]), -speed / DT_S)
    if speed < 0.35 and wished < 0.25:
        pull = -speed / DT_S  # stands, does not creep
    metres = max(speed * DT_S + 0.5 * pull * DT_S**2, 0.0)
    steer(drivers, state, i, metres, time_s)
    state.along[i] += metres
    state.speed[i] = max(speed + pull * DT_S, 0.0)
    state.acceleration[i] = max(pull, -HARDEST_BRAKE)
    state.waited_s[i] = state.waited_s[i] + DT_S if state.speed[i] < 0.3 else 0.0
