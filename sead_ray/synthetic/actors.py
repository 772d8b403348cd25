"""Road users of a scene, and how they behave."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic.bodies import KINDS, Body, build_body
from sead_ray.synthetic.motion import NEVER
from sead_ray.synthetic.rig import EGO_HEIGHT_M, EGO_LENGTH_M, EGO_WIDTH_M
from sead_ray.synthetic.routes import Route


@dataclass
class Manner:
    """How a driver drives; see `motion.Drivers` for the cue."""

    eager: float = 1.0
    headway_s: float = 1.3
    accelerate_mps2: float = 1.8
    brake_mps2: float = 2.0
    bias_m: float = 0.0
    phase_rad: float = 0.0
    courtesy: bool = False
    skill: int = 0
    cue_mode: int = 0
    cue_m: float = NEVER
    cue_s: float = NEVER
    cue_factor: float = 0.0


@dataclass
class Walk:
    """A way on foot: `path` (n, 2), where on it the kerbs are, when it begins, and where the person hesitates."""

    path: NDArray[np.float64]
    speed_mps: float
    delay_s: float = 0.0
    cue_m: float = NEVER
    kerbs_m: tuple[float, float] = (-1.0, -1.0)
    crosswalk: int = -1
    bold: bool = False
    pause_m: float = -1.0
    pause_s: float = 0.0


@dataclass
class Actor:
    """One road user. Drivers have a route, people on foot a walk, the rest a place (x, y, yaw)."""

    kind: str
    size_wlh_m: tuple[float, float, float]
    colour: tuple[int, int, int]
    route: Route | None = None
    start_m: float = 0.0
    speed_mps: float = 0.0
    side_m: float = 0.0
    manner: Manner = field(default_factory=Manner)
    walk: Walk | None = None
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    state: str = ""  # "parked" or "standing" for what has a place
    shown: bool = True

    @cached_property
    def body(self) -> Body:
        return build_body(self.kind, self.size_wlh_m, self.colour)


def make_actor(kind: str, rng: np.random.Generator) -> Actor:
    spec = KINDS[kind]
    scale = 1 + spec.spread * np.clip(rng.normal(size=3), -2, 2)
    width, length, height = (np.round(np.array(spec.size_wlh_m) * scale, 3)).tolist()
    return Actor(kind, (width, length, height), spec.colours[rng.integers(len(spec.colours))])


def make_manner(kind: str, rng: np.random.Generator) -> Manner:
    """People differ: in haste, distance, firmness, place in the lane."""
    slow = kind == "bicycle"
    heavy = kind in ("truck", "bus", "trailer", "construction")
    return Manner(
        eager=float(rng.uniform(0.36, 0.48) if slow else rng.uniform(0.72, 0.9) if heavy else rng.uniform(0.8, 1.08)),
        headway_s=float(rng.uniform(0.9, 1.8)),
        accelerate_mps2=float(rng.uniform(0.8, 1.2) if heavy or slow else rng.uniform(1.3, 2.3)),
        brake_mps2=float(rng.uniform(1.6, 2.6)),
        bias_m=float(rng.uniform(-0.2, 0.2)),
        phase_rad=float(rng.uniform(0, 2 * np.pi)),
        courtesy=bool(rng.random() < 0.5),
        skill=int(rng.random() < 0.7),
    )


def make_ego(route: Route, start_m: float, rng: np.random.Generator) -> Actor:
    """Actor 0: the expert. It stops for people, passes what stands or crawls, and varies as people do."""
    manner = Manner(
        eager=float(rng.uniform(0.82, 1.03)),
        headway_s=float(rng.uniform(1.0, 1.7)),
        accelerate_mps2=float(rng.uniform(1.4, 2.2)),
        brake_mps2=float(rng.uniform(1.7, 2.4)),
        bias_m=float(rng.uniform(-0.15, 0.15)),
        phase_rad=float(rng.uniform(0, 2 * np.pi)),
        courtesy=True,
        skill=2,
    )
    ego = Actor("car", (EGO_WIDTH_M, EGO_LENGTH_M, EGO_HEIGHT_M), (200, 200, 200), route, start_m, manner=manner)
    limit = route.limits_mps[min(int(start_m * 2), len(route.limits_mps) - 1)]
    ego.speed_mps = float(rng.uniform(0.75, 0.98) * limit * manner.eager)
    return ego
