"""What a scenario stages on the ego's way: somebody steps out, pulls out, brakes, stands, or the road is closed.

Places are given along the ego's route; `outer` is the side of the kerb.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sead_ray.synthetic import lines
from sead_ray.synthetic.actors import Actor, Manner, Walk, make_actor, make_manner
from sead_ray.synthetic.ego_route import Staging
from sead_ray.synthetic.network import LANE_M, PARKING_M, Town
from sead_ray.synthetic.routes import STEP_M, route_points
from sead_ray.synthetic.scenarios import Scenario

STRIP_M = LANE_M / 2 + PARKING_M / 2 + 0.1  # from a lane's middle to that of the parking strip
Stage = Callable[[Town, Staging, np.random.Generator], list[Actor]]


def stage_event(town: Town, scenario: Scenario, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """The actors of the scenario's event."""
    stage = _STAGES.get(scenario.event)
    return stage(town, staging, rng) if stage else []


def beside(staging: Staging, along_m: float, left_m: float) -> tuple[float, float, float]:
    """x, y, yaw of a place beside the ego's route."""
    x, y = route_points(staging.route, np.array([along_m]))[0]
    yaw = float(staging.route.headings[min(int(along_m / STEP_M), len(staging.route.headings) - 1)])
    return float(x - left_m * np.sin(yaw)), float(y + left_m * np.cos(yaw)), yaw


def _outer(town: Town) -> int:
    return -1 if town.drives_right else 1


def _still(kind: str, place: tuple[float, float, float], state: str, rng: np.random.Generator) -> Actor:
    actor = make_actor(kind, rng)
    actor.place, actor.state = place, state
    return actor


def _driver(kind: str, staging: Staging, along_m: float, manner: Manner, rng: np.random.Generator) -> Actor:
    """Somebody on the ego's own route."""
    actor = make_actor(kind, rng)
    actor.route, actor.start_m, actor.manner = staging.route, along_m, manner
    actor.speed_mps = float(0.9 * manner.eager * staging.route.limits_mps[int(along_m / STEP_M)])
    return actor


def _lead(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    manner = make_manner("car", rng)
    manner.eager = float(rng.uniform(0.62, 0.85))
    kind = str(rng.choice(["car", "truck", "bus", "motorcycle"], p=[0.7, 0.12, 0.1, 0.08]))
    return [_driver(kind, staging, staging.ego.start_m + rng.uniform(16, 30), manner, rng)]


def _lead_brake(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    (leader,) = _lead(town, staging, rng)
    leader.manner.eager = staging.ego.manner.eager * 0.93
    leader.start_m = staging.ego.start_m + rng.uniform(15, 20)
    leader.manner.cue_mode, leader.manner.cue_factor = 1, 0.0
    leader.manner.cue_m, leader.manner.cue_s = staging.event_m - 12, float(rng.uniform(2.5, 5.0))
    return [leader]


def _people_at(town: Town, staging: Staging, count: int, rng: np.random.Generator) -> list[Actor]:
    """People who cross the road of the event in front of the ego, as it comes."""
    outer = _outer(town)
    road = town.roads[town.lanes[staging.lane].road]
    near, far = outer * (LANE_M / 2 + PARKING_M + 1.2), -outer * (2 * road.half_m - 1.0)
    numbers = [(at, int(number)) for at, number in staging.route.crosswalks if town.crosswalks[int(number)].arm is None]
    along, number = min(numbers, key=lambda item: abs(item[0] - staging.event_m), default=(staging.event_m, -1))
    if abs(along - staging.event_m) > 45:
        along, number = staging.event_m, -1
    speed_mps = staging.ego.manner.eager * staging.route.limits_mps[int(along / STEP_M)]
    out = []
    for index in range(count):
        actor = make_actor(str(rng.choice(["pedestrian", "child"], p=[0.85, 0.15])), rng)
        start, end = (near, far) if rng.random() < 0.6 else (far, near)
        at = along + rng.uniform(-1.0, 1.0)
        stroll = rng.choice([-1, 1]) * rng.uniform(1.0, 3.0)
        points = [(at + stroll, start), (at, start), (at, end), (at + rng.choice([-1, 1]) * 20, end)]
        path = np.array([beside(staging, a, left)[:2] for a, left in points])
        middle = lines.arc_lengths(path)
        speed = float(rng.uniform(1.0, 1.6))
        lead = speed_mps * rng.uniform(2.9, 3.8) + 4 + 4.0 * index * rng.uniform(0.3, 1.2)
        actor.walk = Walk(
            path, speed, cue_m=along - lead, kerbs_m=(float(middle[1]), float(middle[2])), crosswalk=number, bold=True
        )
        if rng.random() < 0.3:
            actor.walk.pause_m, actor.walk.pause_s = (
                float(middle[1] + rng.uniform(0, 1.0)),
                float(rng.uniform(0.4, 1.2)),
            )
        out.append(actor)
    return out


def _crosswalk(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    return _people_at(town, staging, int(rng.integers(1, 3)), rng)


def _crowd(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    return _people_at(town, staging, int(rng.integers(5, 8)), rng)


def _dart_out(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """Somebody steps out between parked vehicles that hid them."""
    outer = _outer(town)
    along = staging.event_m
    out = []
    for shift in (-3.6, 3.0):
        kind = "car" if rng.random() < 0.6 else "truck"
        hiding = make_actor(kind, rng)
        length = hiding.size_wlh_m[1] / 2
        x, y, yaw = beside(staging, along + shift + (-length + 2.3 if shift < 0 else length - 2.3), outer * STRIP_M)
        hiding.place, hiding.state = (x, y, yaw), "parked"
        out.append(hiding)
    actor = make_actor("child" if rng.random() < 0.5 else "pedestrian", rng)
    path = np.array([beside(staging, along, left)[:2] for left in (outer * 5.4, outer * 4.0, -outer * 9.0)])
    kerb = lines.arc_lengths(path)
    lead = staging.ego.manner.eager * staging.route.limits_mps[int(along / STEP_M)] * rng.uniform(1.9, 2.5) + 3
    actor.walk = Walk(
        path, float(rng.uniform(1.6, 2.6)), cue_m=along - lead, kerbs_m=(float(kerb[1]), float(kerb[2])), bold=True
    )
    return [*out, actor]


def _pull_out(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """A parked car drives off in front of the ego."""
    manner = make_manner("car", rng)
    manner.eager = float(rng.uniform(0.45, 0.65))
    speed = staging.ego.manner.eager * staging.route.limits_mps[int(staging.event_m / STEP_M)]
    manner.cue_mode, manner.cue_m = 2, staging.event_m - float(rng.uniform(2.0, 2.8)) * speed
    actor = _driver("car", staging, staging.event_m, manner, rng)
    actor.side_m, actor.speed_mps = _outer(town) * STRIP_M, 0.0
    return [actor]


def _stopped(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """A vehicle that stands in the ego's lane, with somebody loading beside it."""
    kind = str(rng.choice(["car", "truck", "bus"], p=[0.45, 0.45, 0.1]))
    outer = _outer(town)
    actor = _still(kind, beside(staging, staging.event_m, outer * float(rng.uniform(0.3, 0.9))), "parked", rng)
    return [actor]


def _cyclist(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    manner = make_manner("bicycle", rng)
    manner.bias_m = _outer(town) * float(rng.uniform(0.6, 1.0))
    actor = _driver("bicycle", staging, staging.ego.start_m + rng.uniform(30, 45), manner, rng)
    actor.side_m = manner.bias_m
    return [actor]


def _works(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """Road works that take a part of the ego's lane: cones, barriers, workers, a machine."""
    outer = _outer(town)
    reach = float(rng.uniform(10, 16))
    edge = float(rng.uniform(-0.1, 0.5))  # how far beyond the lane's middle, towards the kerb, the cones begin
    out = []
    for index, at in enumerate(np.arange(0, reach, 2.6)):
        taper = max(0.0, 1 - at / 6.0)
        left = outer * (edge + 1.5 * taper)
        x, y, yaw = beside(staging, staging.event_m + at, left)
        kind = "barrier" if index > 2 and index % 3 == 0 else "cone"
        out.append(_still(kind, (x, y, yaw + (np.pi / 2 if kind == "barrier" else 0.0)), "standing", rng))
    machine = beside(staging, staging.event_m + reach / 2 + 2, outer * (edge + 2.1))
    out.append(_still("construction", machine, "parked", rng))
    x, y, yaw = beside(staging, staging.event_m + reach / 2 + 7, outer * (edge + 1.8))
    out.append(_still("worker", (x, y, yaw + np.pi / 2), "standing", rng))
    return out


def _closure(town: Town, staging: Staging, rng: np.random.Generator) -> list[Actor]:
    """The ego's lane ends: a barrier across it; whoever drives there merges."""
    out = []
    for shift in (-1.1, 1.1):
        x, y, yaw = beside(staging, staging.event_m, shift * 0.9)
        out.append(_still("barrier", (x, y, yaw), "standing", rng))
    for at in (-9.0, -6.0, -3.0):
        out.append(
            _still("cone", beside(staging, staging.event_m + at, _outer(town) * (0.5 - at / 8)), "standing", rng)
        )
    out.append(_still("construction", beside(staging, staging.event_m + 7, 0.0), "parked", rng))
    return out


_STAGES: dict[str, Stage] = {
    "lead": _lead,
    "lead_brake": _lead_brake,
    "crosswalk": _crosswalk,
    "crowd": _crowd,
    "dart_out": _dart_out,
    "pull_out": _pull_out,
    "stopped": _stopped,
    "cyclist": _cyclist,
    "works": _works,
    "closure": _closure,
}
