"""Keeping distance: the intelligent driver model (Treiber et al. 2000), and how much of a driver's way is free."""

from __future__ import annotations

import numpy as np

from sead_ray.synthetic.kernels import kernel
from sead_ray.synthetic.motion import CIRCLES, NEVER, at_route, step_at

STANDSTILL_M = 1.2
HARDEST_BRAKE = 7.0  # m/s^2
LOOK_STEP_M = 0.75
AIR_M = 0.22


@kernel
def idm(speed, desired, gap, closing, headway_s, accelerate, brake):
    """Acceleration wished for, m/s^2."""
    wish = STANDSTILL_M + max(0.0, speed * headway_s + speed * closing / (2 * np.sqrt(accelerate * brake)))
    if speed > desired:
        free = -min(1.4 * (speed - desired), 1.2 * brake)
    else:
        free = accelerate * (1 - (speed / max(desired, 0.1)) ** 4)
    full = free - accelerate * (wish / max(gap, 0.05)) ** 2
    # The model alone brakes far harder than the stop needs, where somebody appears near; people do not.
    pace = max(speed - closing, 0.0)
    needed = max(speed * speed - pace * pace, 0.0) / (2 * max(gap - 0.4, 0.3))
    return max(full, -max(1.3 * brake, 1.2 * needed), -HARDEST_BRAKE)


@kernel
def swerve_m(speed):
    """Metres over which a driver comes to another offset."""
    return min(5.0 + 1.1 * speed, 15.0)


@kernel
def hits(drivers, state, i, goal, first_m, reach_m, x, y, radius):
    """Distance ahead at which driver i, steering to offset `goal`, would touch a circle; NEVER where not."""
    near = (drivers.size[i, 0] / 2 + radius + AIR_M) ** 2
    swerve = swerve_m(state.speed[i])
    ahead = first_m
    while ahead < reach_m:
        px, py = at_route(drivers.points, i, state.along[i] + ahead)
        yaw = drivers.headings[i, step_at(drivers.points, state.along[i] + ahead)]
        side = goal + (state.side[i] - goal) * max(0.0, 1 - max(ahead - first_m, 0.0) / swerve)
        px, py = px - side * np.sin(yaw), py + side * np.cos(yaw)
        gap2 = (px - x) ** 2 + (py - y) ** 2
        if gap2 < near:
            return ahead
        # no circle can be met before the distance to it is covered
        ahead += max(LOOK_STEP_M, 0.7 * (np.sqrt(gap2) - np.sqrt(near)))
    return NEVER


@kernel
def free_way(drivers, state, network, i, goal, reach_m):
    """Free metres ahead of driver i, the speed of what ends them along its way, and who: driver number, -2 something
    that stands still, -1 nobody."""
    first = drivers.size[i, 1] / 2
    best, pace, who = NEVER, 0.0, -1
    cos, sin = np.cos(state.heading[i]), np.sin(state.heading[i])
    for j in range(len(state.along)):
        dx, dy = state.x[j] - state.x[i], state.y[j] - state.y[i]
        half = drivers.size[j, 1] / 2
        if j == i or dx * dx + dy * dy > (reach_m + half) ** 2:
            continue
        cj, sj = np.cos(state.heading[j]), np.sin(state.heading[j])
        spread = drivers.size[j, 1] - drivers.size[j, 0]
        for c in range(CIRCLES):
            shift = (c / (CIRCLES - 1) - 0.5) * spread
            ox, oy = dx + shift * cj, dy + shift * sj
            if ox * cos + oy * sin < 0.3 * drivers.size[i, 1]:
                continue
            at = hits(
                drivers,
                state,
                i,
                goal,
                first,
                min(best, reach_m),
                state.x[i] + ox,
                state.y[i] + oy,
                drivers.size[j, 0] / 2,
            )
            if at < best:
                best, who = at, j
                pace = max(0.0, state.speed[j] * (cj * cos + sj * sin))
    for k in range(len(network.still)):
        ox, oy = network.still[k, 0] - state.x[i], network.still[k, 1] - state.y[i]
        if ox * ox + oy * oy > reach_m**2 or ox * cos + oy * sin < 0.3 * drivers.size[i, 1]:
            continue
        at = hits(
            drivers,
            state,
            i,
            goal,
            first,
            min(best, reach_m),
            network.still[k, 0],
            network.still[k, 1],
            network.still[k, 2],
        )
        if at < best:
            best, who, pace = at, -2, 0.0
    return (best - first if best < NEVER else NEVER), pace, who


@kernel
def people_ahead(drivers, state, walk, i, reach_m):
    """Free metres to where somebody on foot is, or will be when driver i comes there."""
    first = drivers.size[i, 1] / 2
    best = NEVER
    cos, sin = np.cos(state.heading[i]), np.sin(state.heading[i])
    for w in range(len(walk.x)):
        dx, dy = walk.x[w] - state.x[i], walk.y[w] - state.y[i]
        if dx * dx + dy * dy > reach_m**2 or dx * cos + dy * sin < 0.3 * drivers.size[i, 1]:
            continue
        vx, vy = walk.moving[w] * np.cos(walk.heading[w]), walk.moving[w] * np.sin(walk.heading[w])
        ahead = first
        while ahead < min(best, reach_m):
            time = min((ahead - first) / max(state.speed[i], 2.5), 2.6)
            px, py = at_route(drivers.points, i, state.along[i] + ahead)
            yaw = drivers.headings[i, step_at(drivers.points, state.along[i] + ahead)]
            px, py = px - state.side[i] * np.sin(yaw), py + state.side[i] * np.cos(yaw)
            apart = drivers.size[i, 0] / 2 + 0.55
            now = (px - walk.x[w]) ** 2 + (py - walk.y[w]) ** 2
            then = (px - walk.x[w] - vx * time) ** 2 + (py - walk.y[w] - vy * time) ** 2
            if min(now, then) < apart**2:
                best = ahead
                break
            ahead += LOOK_STEP_M
    return best - first - 0.8 if best < NEVER else NEVER
