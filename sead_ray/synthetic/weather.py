"""Light and air of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sead_ray.synthetic.shade import Light

SUN = np.array([0.45, 0.30, 0.84])


@dataclass(frozen=True)
class Weather:
    """`cover`: of clouds, 0..1; `drift` moves them. `flicker`: the exposure jumps from picture to picture."""

    night: bool
    rain: bool
    cover: float = 0.4
    drift: float = 0.0
    flicker: bool = False

    @property
    def sunny(self) -> bool:
        return not (self.night or self.rain) and self.cover < 0.75

    @property
    def ambient(self) -> float:
        if self.night:
            return 0.12
        return 0.66 if self.rain else 1.0 - 0.18 * max(self.cover - 0.4, 0.0)

    def light(self) -> Light:
        haze_m = (110.0 if self.rain else 420.0) * (0.8 if self.night else 1.0)
        if self.night:
            haze, zenith = (15, 16, 23), (5, 6, 12)
        elif self.rain:
            haze, zenith = (158, 163, 168), (124, 130, 137)
        else:
            haze, zenith = (200, 210, 220), (86, 134, 196)
        cover = 1.0 if self.rain else self.cover
        return Light(
            self.night,
            self.ambient,
            haze_m,
            np.array(haze, np.float64),
            np.array(zenith, np.float64),
            1.0 if self.sunny else 0.15,
            0.0 if self.night else cover,
            self.drift,
            (0.42 if self.night else 0.26) if self.rain else 0.0,
        )
