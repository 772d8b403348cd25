"""What a town's road network is made of: roads, lanes, junctions with the ways across them, crosswalks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sead_ray.synthetic import lines
from sead_ray.synthetic.lines import Line

SIZE_M = 440.0
LANE_M = 3.5
PARKING_M = 2.4
SIDEWALK_M = 3.2
CROSSWALK_M = 3.0
STOP_LINE_M = 5.2  # before the end of the lane: crosswalk, then a gap
RING_M = 11.5  # radius of a roundabout's lane
RING_HALF_M = 2.9  # half its width

JunctionKind = Literal["signal", "priority", "roundabout"]


@dataclass(frozen=True)
class Road:
    """A road between two junctions. `line` is its middle; lanes_per_direction on either side of it."""

    line: Line
    nodes: tuple[int, int]  # junctions at its start and end
    lanes: int
    parking: bool
    speed_mps: float

    @property
    def half_m(self) -> float:
        return self.lanes * LANE_M + (PARKING_M if self.parking else 0.6)

    @property
    def length_m(self) -> float:
        return lines.length(self.line)


@dataclass(frozen=True)
class Lane:
    """One lane in its driving direction. rank 0 is next to the middle of the road."""

    road: int
    forward: bool
    rank: int
    line: Line
    junctions: tuple[int, int]  # where it comes from, where it leads to

    @property
    def arm(self) -> tuple[int, bool]:
        """The junction arm on which it ends: road, and whether at the road's end."""
        return self.road, self.forward


@dataclass(frozen=True)
class Connector:
    """A way across a junction. turn: +1 left, 0 straight, -1 right."""

    from_lane: int
    to_lane: int
    junction: int
    turn: int
    line: Line


@dataclass(frozen=True)
class Junction:
    """A crossing of three or four arms.

    Attributes:
        arms: (road, whether the road ends here), by bearing.
        groups: for each arm the signal's phase in which it has green; arms opposite each other share one.
        main: for each arm whether its road has the right of way (kind "priority").
        outline: the paved area; island: the middle of a roundabout, None elsewhere.
    """

    kind: JunctionKind
    centre: NDArray[np.float64]
    arms: tuple[tuple[int, bool], ...]
    groups: tuple[int, ...]
    main: tuple[bool, ...]
    outline: Line
    island: Line | None


@dataclass(frozen=True)
class Crosswalk:
    """From one kerb to the other. `arm` is set at junctions, None between them."""

    ends: Line  # (2, 2) on the kerbs
    road: int
    along_m: float  # distance along the road's line
    arm: tuple[int, bool] | None
    outline: Line


@dataclass(frozen=True, eq=False)
class Town:
    """`conflicts`: (connectors, connectors, 4) distances from the start of the row's connector between which the two
    come too close, then those of the column's; -1 where they never do."""

    location: str
    drives_right: bool
    roads: tuple[Road, ...]
    lanes: tuple[Lane, ...]
    connectors: tuple[Connector, ...]
    junctions: tuple[Junction, ...]
    crosswalks: tuple[Crosswalk, ...]
    outgoing: tuple[tuple[int, ...], ...]  # connectors that leave each lane
    conflicts: NDArray[np.float32]


def arm_end(road: Road, at_end: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a road meets a junction: the point, and the unit direction into the junction."""
    tangents = lines.directions(road.line)
    return (road.line[-1], tangents[-1]) if at_end else (road.line[0], -tangents[0])
