"""What a scene's description says of light and weather (nuScenes' own words; the strata of ActiveAD and SEAD)."""

from __future__ import annotations

import re

_NIGHT = re.compile(r"\bnight(time)?\b", re.IGNORECASE)
_RAIN = re.compile(r"\brain(y|ing)?\b", re.IGNORECASE)


def is_night(description: str) -> bool:
    return _NIGHT.search(description) is not None


def is_rainy(description: str) -> bool:
    return _RAIN.search(description) is not None
