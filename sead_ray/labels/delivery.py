"""What annotators send back, whatever tool it comes from, before anything of it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sead_ray.labels.task import LabelTask, TaskFrame


@dataclass(frozen=True)
class DeliveredBox:
    """One box in the global frame.

    Attributes:
        row: how a person finds it in the delivery ("sample_annotation 12ab…").
        instance: the track's name, unique in the delivery; `is_tracked` False: the tool gave none.
        n_lidar_points, n_radar_points: returns inside; None: the tool does not count them.
        links: what the delivery says of the track: (prev or next, frame token and instance of that annotation).
    """

    row: str
    frame_token: str
    instance: str
    category: str
    translation_m: tuple[float, ...]
    size_wlh_m: tuple[float, ...]
    rotation_wxyz: tuple[float, ...]
    n_lidar_points: int | None = None
    n_radar_points: int = 0
    attribute: str = ""
    is_tracked: bool = True
    links: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Fault:
    """A row that cannot be accepted."""

    row: str
    reason: str

    def __str__(self) -> str:
        return f"{self.row} {self.reason}"


@dataclass(frozen=True)
class Delivery:
    """Boxes of one delivery.

    Attributes:
        times_us: time stamps that it states, by frame token.
        faults: rows that could not be read as boxes.
    """

    boxes: list[DeliveredBox]
    times_us: Mapping[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What a round asked for, by frame token."""

    frames: dict[str, tuple[LabelTask, TaskFrame]]

    @classmethod
    def of(cls, tasks: list[LabelTask]) -> Asked:
        return cls({item.frame.token: (task, item) for task in tasks for item in task.frames})

    def is_requested(self, token: str) -> bool:
        return token in self.frames and not self.frames[token][1].is_context

    @property
    def requested(self) -> list[str]:
        return [token for token in self.frames if self.is_requested(token)]
