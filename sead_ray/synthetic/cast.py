"""Who is where when a scene's simulation begins: traffic, parked vehicles, pedestrians, road works."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.bodies import KINDS, Body, build_body
from sead_ray.synthetic.rig import EGO_HEIGHT_M, EGO_LENGTH_M, EGO_WIDTH_M
from sead_ray.synthetic.routes import Route, plan_route, route_points
from sead_ray.synthetic.town import LANE_M, PARKING_M, Town


@dataclass
class Actor:
    """One road user. Drivers have a route, walkers a path, the rest a place."""

    kind: str
    size_wlh_m: tuple[float, float, float]
    body: Body | None
    route: Route | None = None
    start_m: float = 0.0
    speed_mps: float = 0.0
    eagerness: float = 1.0  # factor on speed limits
    path: NDArray[np.float64] | None = None  # (n, 2) of a walker
    crossing: tuple[int, float, float] | None = None  # crosswalk, where on the path the kerbs are
    delay_s: float = 0.0
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)  # x, y, yaw of what stands still
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def wheelbase_m(self) -> float:
        return 0.58 * self.size_wlh_m[1]


def make_actor(kind: str, rng: np.random.Generator) -> Actor:
    spec = KINDS[kind]
    scale = 1 + spec.spread * np.clip(rng.normal(size=3), -2, 2)
    width, length, height = (np.round(np.array(spec.size_wlh_m) * scale, 3)).tolist()
    size = (width, length, height)
    colour = spec.colours[rng.integers(len(spec.colours))]
    return Actor(kind, size, build_body(kind, size, colour))


def make_ego(town: Town, rng: np.random.Generator, length_m: float) -> Actor:
    """Actor 0. Begins 25 to 85 m before a junction at which it turns or goes on, as drawn."""
    wanted = int(rng.choice([1, -1, 0], p=[0.36, 0.36, 0.28]))
    fits = [
        number
        for number, lane in enumerate(town.lanes)
        if any(town.connectors[item].turn == wanted for item in town.outgoing[number]) and len(lane.line) > 70
    ]
    lane = int(rng.choice(fits))
    route = plan_route(town, lane, length_m, rng, wanted)
    start = max(8.0, float(route.turns[0, 0]) - rng.uniform(25, 85))
    ego = Actor("car", (EGO_WIDTH_M, EGO_LENGTH_M, EGO_HEIGHT_M), None, route, start)
    ego.speed_mps = float(rng.uniform(0.6, 1.0) * route.limits_mps[int(start * 2)])
    ego.eagerness = float(rng.uniform(0.9, 1.02))
    return ego


def cast_scene(town: Town, rng: np.random.Generator, horizon_s: float) -> list[Actor]:
    """All actors of a scene, the ego first."""
    reach = 13.0 * horizon_s + 60
    ego = make_ego(town, rng, reach + 120)
    assert ego.route is not None
    focus = route_points(ego.route, ego.start_m + np.arange(0, min(reach, 170), 5.0))
    actors = [ego]
    actors += _traffic(town, rng, focus, ego, reach)
    actors += _parked(town, rng, focus)
    actors += _crossing_people(town, rng, focus, ego)
    actors += _strolling_people(town, rng, focus)
    if rng.random() < 0.4:
        actors += _road_works(town, rng, focus, actors)
    return actors


def _distance(points: NDArray[np.float64], focus: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(((points[:, None] - focus[None]) ** 2).sum(-1)).min(axis=1)


def _traffic(town: Town, rng: np.random.Generator, focus, ego: Actor, reach_m: float) -> list[Actor]:
    """Vehicles on the lanes near the ego's way, with gaps drawn anew for each scene."""
    kinds = ["car", "truck", "bus", "motorcycle", "bicycle", "construction", "trailer"]
    shares = [0.68, 0.09, 0.06, 0.06, 0.08, 0.015, 0.015]
    mean_gap = float(rng.choice([16.0, 28.0, 55.0], p=[0.3, 0.45, 0.25]))
    spots = []
    for number, lane in enumerate(town.lanes):
        at = rng.uniform(4, 25)
        total = lines.length(lane.line)
        while at < total - 14:
            spots.append((number, float(at)))
            at += 12 + rng.exponential(mean_gap)
    points = np.array([lines.points_at(town.lanes[lane].line, np.array([at]))[0] for lane, at in spots])
    ego_place = focus[0]
    order = np.argsort(_distance(points, focus) + rng.uniform(0, 40, len(points)))
    chosen = []
    for index in order[:26]:
        lane, at = spots[index]
        if _distance(points[index : index + 1], focus)[0] > 70 or np.hypot(*(points[index] - ego_place)) < 15:
            continue
        actor = make_actor(str(rng.choice(kinds, p=shares)), rng)
        actor.route = plan_route(town, lane, at + reach_m * 0.8, rng)
        actor.start_m = at
        actor.eagerness = float(rng.uniform(0.8, 1.05)) if actor.kind != "bicycle" else float(rng.uniform(0.38, 0.5))
        actor.speed_mps = float(0.7 * actor.eagerness * actor.route.limits_mps[int(at * 2)])
        chosen.append(actor)
    return chosen


def _parked(town: Town, rng: np.random.Generator, focus: NDArray[np.float64]) -> list[Actor]:
    """Rows of parked vehicles in the parking strips."""
    out = []
    for number, road in enumerate(town.roads):
        if not road.parking:
            continue
        crossings = [item.along_m for item in town.crosswalks if item.road == number]
        for side in (1, -1):
            fill = rng.uniform(0.15, 0.8)
            line = lines.offset(road.line, side * (road.lanes * LANE_M + PARKING_M / 2 + 0.1))
            scale = lines.length(line) / road.length_m
            for at in np.arange(11.1, road.length_m - 18, 6.2):
                if rng.random() > fill or min(abs(at - crossing) for crossing in crossings) < 6.5:
                    continue
                point = lines.points_at(line, np.array([at * scale - 0.5, at * scale + 0.5]))
                if _distance(point[:1], focus)[0] > 45:
                    continue
                actor = make_actor(str(rng.choice(["car", "motorcycle"], p=[0.93, 0.07])), rng)
                forward = (side < 0) == town.drives_right
                yaw = np.arctan2(*(point[1] - point[0])[::-1]) + (0 if forward else np.pi) + rng.normal() * 0.02
                actor.place = (*point.mean(axis=0).tolist(), float(yaw))
                actor.tags["state"] = "parked"
                out.append(actor)
    return out


def _crossing_people(town: Town, rng: np.random.Generator, focus, ego: Actor) -> list[Actor]:
    """People who walk along a sidewalk, wait for a gap, cross, and walk on."""
    assert ego.route is not None
    out = []
    ahead = {int(number) for at, number in ego.route.crosswalks if ego.start_m < at < ego.start_m + 170}
    for number, crossing in enumerate(town.crosswalks):
        if _distance(crossing.ends.mean(axis=0)[None], focus)[0] > 40:
            continue
        for _ in range(rng.poisson(1.5 if number in ahead else 0.5)):
            actor = make_actor(str(rng.choice(["pedestrian", "child"], p=[0.88, 0.12])), rng)
            first, last = crossing.ends[::-1] if rng.random() < 0.5 else crossing.ends
            across = (last - first) / np.linalg.norm(last - first)
            along = np.array([-across[1], across[0]])
            shift = rng.uniform(-1.1, 1.1) * along
            approach, leave = rng.uniform(3, 14) * rng.choice([-1, 1]), rng.uniform(15, 30) * rng.choice([-1, 1])
            kerb_in, kerb_out = first - 1.1 * across + shift, last + 1.1 * across + shift
            actor.path = np.stack([kerb_in + approach * along, kerb_in, kerb_out, kerb_out + leave * along])
            middle = lines.arc_lengths(actor.path)
            actor.crossing = (number, float(middle[1]), float(middle[2]))
            actor.speed_mps = float(rng.uniform(0.9, 1.7))
            actor.delay_s = float(rng.uniform(0, 16))
            out.append(actor)
    return out


def _strolling_people(town: Town, rng: np.random.Generator, focus: NDArray[np.float64]) -> list[Actor]:
    """People who walk along, or stand on, the sidewalks."""
    out = []
    for road in town.roads:
        for side in (1, -1):
            line = lines.offset(road.line, side * (road.half_m + rng.uniform(0.9, 2.0)))
            total = lines.length(line)
            for at in rng.uniform(0, total - 2, rng.poisson(total / 45)):
                point = lines.points_at(line, np.array([at]))
                if _distance(point, focus)[0] > 35:
                    continue
                actor = make_actor(str(rng.choice(["pedestrian", "child", "worker"], p=[0.86, 0.07, 0.07])), rng)
                if rng.random() < 0.25:
                    actor.place = (*point[0].tolist(), float(rng.uniform(-np.pi, np.pi)))
                    actor.tags["state"] = "standing"
                else:
                    path = lines.cut(line, at, total) if rng.random() < 0.5 else lines.cut(line, 0, at)[::-1]
                    actor.path, actor.speed_mps = path.copy(), float(rng.uniform(0.7, 1.6))
                out.append(actor)
    return out


def _road_works(town: Town, rng: np.random.Generator, focus, actors: list[Actor]) -> list[Actor]:
    """A row of cones and barriers at a kerb, in the margin or the parking strip."""
    roads = [road for road in town.roads if _distance(road.line[len(road.line) // 2][None], focus)[0] < 40]
    if not roads:
        return []
    road = roads[rng.integers(len(roads))]
    out = []
    side = int(rng.choice([1, -1]))
    start = rng.uniform(0.2, 0.6) * road.length_m
    line = lines.offset(road.line, side * (road.half_m - 0.35))
    for index, at in enumerate(np.arange(start, min(start + rng.uniform(8, 22), lines.length(line) - 3), 2.4)):
        actor = make_actor("barrier" if index % 4 == 3 else "cone", rng)
        point = lines.points_at(line, np.array([at, at + 0.5]))
        yaw = float(np.arctan2(*(point[1] - point[0])[::-1]) + np.pi / 2) if actor.kind == "barrier" else 0.0
        actor.place = (*point[0].tolist(), yaw + (np.pi / 2 if actor.kind == "barrier" else 0.0))
        actor.tags["state"] = "standing"
        still = [other for other in actors if other.tags]
        reach = max(actor.size_wlh_m[:2]) / 2 + 0.3
        if all(np.hypot(*(np.array(other.place[:2]) - point[0])) > reach + other.size_wlh_m[1] / 2 for other in still):
            out.append(actor)
    return out
