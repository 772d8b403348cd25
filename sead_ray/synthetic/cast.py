"""Who is where when a scene's simulation begins: the ego, traffic, parked vehicles, people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.actors import Actor, Walk, make_actor, make_manner
from sead_ray.synthetic.ego_route import Staging, stage_ego
from sead_ray.synthetic.events import stage_event
from sead_ray.synthetic.network import LANE_M, PARKING_M, Town
from sead_ray.synthetic.routes import plan_route, route_points
from sead_ray.synthetic.scenarios import Scenario

KIND_SHARES = {
    "car": 0.70,
    "truck": 0.08,
    "bus": 0.05,
    "motorcycle": 0.06,
    "bicycle": 0.07,
    "construction": 0.02,
    "trailer": 0.02,
}
MOST_DRIVERS, MOST_PARKED = 26, 60
Points = NDArray[np.float64]


def cast_scene(
    town: Town, scenario: Scenario, event_s: float, horizon_s: float, rng: np.random.Generator
) -> tuple[list[Actor], Staging]:
    """All actors of a scene, the ego first."""
    staging = stage_ego(town, scenario, event_s, horizon_s, rng)
    begin = staging.ego.start_m
    focus = route_points(staging.route, begin + np.arange(0, min(14.0 * horizon_s, 260), 5.0))
    actors = [staging.ego, *stage_event(town, scenario, staging, rng)]
    staged = actors[1:]
    actors += _traffic(town, scenario, rng, focus, staging, staged, horizon_s)
    actors += _parked(town, scenario, rng, focus, staged)
    actors += _crossing_people(town, scenario, rng, focus)
    actors += _strolling_people(town, scenario, rng, focus)
    return actors, staging


def _distance(points: Points, focus: Points) -> Points:
    return np.sqrt(((points[:, None] - focus[None]) ** 2).sum(-1)).min(axis=1)


def _places(actors: list[Actor]) -> Points:
    """Where the staged actors are at the beginning."""
    out = [actor.place[:2] for actor in actors if actor.state]
    out += [tuple(route_points(actor.route, np.array([actor.start_m]))[0]) for actor in actors if actor.route]
    return np.array(out, np.float64).reshape(-1, 2)


def _traffic(town: Town, scenario: Scenario, rng, focus, staging: Staging, staged, horizon_s: float) -> list[Actor]:
    """Vehicles on the lanes near the ego's way, with gaps drawn anew for each scene."""
    number = int(rng.poisson(11 * scenario.vehicles))
    if not number:
        return []
    spots = []
    for lane, item in enumerate(town.lanes):
        at = rng.uniform(4, 25)
        total = lines.length(item.line)
        while at < total - 14:
            spots.append((lane, float(at)))
            at += 13 + rng.exponential(22 / max(scenario.vehicles, 0.5))
    points = np.array([lines.points_at(town.lanes[lane].line, np.array([at]))[0] for lane, at in spots])
    taken = np.concatenate([focus[:1], _places(staged)])
    clear = np.hypot(*(points[:, None] - taken[None]).transpose(2, 0, 1)).min(axis=1) > 17
    keys = np.where(
        clear & (_distance(points, focus) < 75), _distance(points, focus) + rng.uniform(0, 50, len(points)), np.inf
    )
    out = []
    for index in np.argsort(keys)[: min(number, MOST_DRIVERS)]:
        if not np.isfinite(keys[index]):
            break
        lane, at = spots[index]
        actor = make_actor(str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values()))), rng)
        actor.manner = make_manner(actor.kind, rng)
        actor.route = plan_route(town, lane, at + 12.0 * horizon_s + 40, rng)
        actor.start_m = at
        outer = -1 if town.drives_right else 1
        if actor.kind == "bicycle":  # near the kerb
            actor.manner.bias_m = outer * 0.9
            actor.side_m = actor.manner.bias_m
        actor.speed_mps = float(0.8 * actor.manner.eager * actor.route.limits_mps[int(at * 2)])
        out.append(actor)
    return out


def _parked(town: Town, scenario: Scenario, rng, focus: Points, staged: list[Actor]) -> list[Actor]:
    """Rows of parked vehicles in the parking strips."""
    if scenario.parked == 0:
        return []
    out = []
    taken = _places(staged)
    people = np.array([actor.walk.path[0] for actor in staged if actor.walk]).reshape(-1, 2)
    taken = np.concatenate([taken, people])
    for number, road in enumerate(town.roads):
        if not road.parking or _distance(road.line[::8], focus).min() > 40:
            continue
        crossings = [item.along_m for item in town.crosswalks if item.road == number]
        for side in (1, -1):
            fill = min(rng.uniform(0.1, 0.6) * scenario.parked, 0.95)
            line = lines.offset(road.line, side * (road.lanes * LANE_M + PARKING_M / 2 + 0.1))
            scale = lines.length(line) / road.length_m
            for at in np.arange(11.1, road.length_m - 18, 6.2):
                if rng.random() > fill or min(abs(at - crossing) for crossing in crossings) < 6.5:
                    continue
                point = lines.points_at(line, np.array([at * scale - 0.5, at * scale + 0.5]))
                centre = point.mean(axis=0)
                if _distance(point[:1], focus)[0] > 42 or len(out) >= MOST_PARKED:
                    continue
                if len(taken) and np.hypot(*(taken - centre).T).min() < 5.6:
                    continue
                forward = (side < 0) == town.drives_right
                yaw = np.arctan2(*(point[1] - point[0])[::-1]) + (0 if forward else np.pi) + rng.normal() * 0.02
                out.append(parked_actor(centre, float(yaw), rng))
    return out


def parked_actor(centre: Points, yaw: float, rng: np.random.Generator) -> Actor:
    actor = make_actor(str(rng.choice(["car", "motorcycle"], p=[0.93, 0.07])), rng)
    actor.place, actor.state = (float(centre[0]), float(centre[1]), yaw), "parked"
    return actor


def _crossing_people(town: Town, scenario: Scenario, rng, focus: Points) -> list[Actor]:
    """People who walk along a sidewalk, wait for a gap, cross, and walk on."""
    out = []
    for number, crossing in enumerate(town.crosswalks):
        if _distance(crossing.ends.mean(axis=0)[None], focus)[0] > 40:
            continue
        for _ in range(rng.poisson((0.5 if crossing.arm else 0.12) * scenario.people)):
            out.append(crossing_person(town, number, rng, float(rng.uniform(0, 16))))
    return out


def crossing_person(town: Town, number: int, rng: np.random.Generator, delay_s: float) -> Actor:
    crossing = town.crosswalks[number]
    actor = make_actor(str(rng.choice(["pedestrian", "child"], p=[0.88, 0.12])), rng)
    first, last = crossing.ends[::-1] if rng.random() < 0.5 else crossing.ends
    across = (last - first) / np.linalg.norm(last - first)
    along = np.array([-across[1], across[0]])
    shift = rng.uniform(-1.1, 1.1) * along
    approach, leave = rng.uniform(2, 8) * rng.choice([-1, 1]), rng.uniform(15, 30) * rng.choice([-1, 1])
    kerb_in, kerb_out = first - 1.1 * across + shift, last + 1.1 * across + shift
    path = np.stack([kerb_in + approach * along, kerb_in, kerb_out, kerb_out + leave * along])
    middle = lines.arc_lengths(path)
    actor.walk = Walk(
        path, float(rng.uniform(0.9, 1.7)), delay_s, kerbs_m=(float(middle[1]), float(middle[2])), crosswalk=number
    )
    if rng.random() < 0.35:  # hesitates at the kerb
        actor.walk.pause_m, actor.walk.pause_s = float(middle[1] - 0.6), float(rng.uniform(0.6, 2.0))
    return actor


def _strolling_people(town: Town, scenario: Scenario, rng, focus: Points) -> list[Actor]:
    """People who walk along, or stand on, the sidewalks."""
    if scenario.people == 0:
        return []
    out = []
    for road in town.roads:
        if _distance(road.line[::8], focus).min() > 35:
            continue
        for side in (1, -1):
            line = lines.offset(road.line, side * (road.half_m + rng.uniform(0.9, 2.0)))
            total = lines.length(line)
            for at in rng.uniform(0, total - 2, rng.poisson(total / 30 * scenario.people)):
                point = lines.points_at(line, np.array([at]))
                if _distance(point, focus)[0] > 35:
                    continue
                actor = make_actor(str(rng.choice(["pedestrian", "child", "worker"], p=[0.86, 0.07, 0.07])), rng)
                if rng.random() < 0.25:
                    actor.place = (*point[0].tolist(), float(rng.uniform(-np.pi, np.pi)))
                    actor.state = "standing"
                else:
                    path = lines.cut(line, at, total) if rng.random() < 0.5 else lines.cut(line, 0, at)[::-1]
                    actor.walk = Walk(path.copy(), float(rng.uniform(0.7, 1.6)))
                out.append(actor)
    return out
