"""Colours of what is shown: one of Okabe and Ito's eight, which eyes of all kinds tell apart."""

from __future__ import annotations

from sead_ray.records import AGENT_CLASSES

RGB = tuple[int, int, int]

ORANGE, SKY, GREEN, YELLOW = (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)
BLUE, RED, PURPLE, GREY = (0, 114, 178), (213, 94, 0), (204, 121, 167), (150, 150, 150)

PLAN, DRIVEN, POINTS = RED, GREEN, GREY
MAP: tuple[RGB, ...] = (YELLOW, SKY, PURPLE)  # divider, crossing, boundary
_PEOPLE, _CYCLES, _THINGS = {"pedestrian"}, {"motorcycle", "bicycle"}, {"barrier", "traffic_cone"}


def of_class(label: int) -> RGB:
    """Of an index into `AGENT_CLASSES`, -1 for none of them."""
    name = AGENT_CLASSES[label] if label >= 0 else ""
    if name in _PEOPLE:
        return BLUE
    if name in _CYCLES:
        return PURPLE
    return GREY if name in _THINGS or not name else ORANGE
